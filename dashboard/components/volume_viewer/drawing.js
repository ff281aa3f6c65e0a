// A mask that is drawn on: which voxels a tool marks or clears, and the way back. It knows no picture and no page.
//
// The mask is one bit of the viewer's own voxels. A step is the list of voxels whose bit was turned over, so undoing
// and redoing it are one thing. NiiVue's own drawing layer is of the size of what NiiVue holds, which here is a coarse
// stand-in; it copies the whole volume for each step back, and has none forward.

const MOST_STEPS = 3e7 // voxels of all steps that are kept
const MOST_GROWN = 2e7

class Drawing {
  // bits: voxels; bit: which of theirs is drawn on; others: where lesions are fetched from; values: of the scan;
  // size: [x, y, z]; spacing: [x, y, z] in mm
  constructor ({ bits, bit, others, values, size, spacing, changed }) {
    Object.assign(this, { bits, bit, others, values, size, spacing, changed })
    this.done = []
    this.undone = []
    this.open = null
  }

  at (x, y, z) {
    return x + this.size[0] * (y + this.size[1] * z)
  }

  voxel (place) {
    const [width, height] = this.size
    return [place % width, Math.floor(place / width) % height, Math.floor(place / (width * height))]
  }

  marked (place) {
    return (this.bits[place] & this.bit) !== 0
  }

  get dirty () {
    return this.done.length > 0
  }

  // --- steps

  begin (z = null) {
    this.end()
    this.open = { z, parts: [] }
  }

  end () {
    const step = this.open
    this.open = null
    if (!step) return 0
    const length = step.parts.reduce((sum, part) => sum + part.length, 0)
    if (!length) return 0
    const places = new Uint32Array(length)
    let offset = 0
    for (const part of step.parts) { places.set(part, offset); offset += part.length }
    this.done.push({ z: step.z, places })
    this.undone = []
    let kept = 0
    for (let n = this.done.length - 1; n >= 0; n--) {
      kept += this.done[n].places.length
      if (kept > MOST_STEPS && n < this.done.length - 1) {
        this.done.splice(0, n + 1).forEach(() => { this.forgotten = true })
        break
      }
    }
    return length
  }

  // Turn over those of the voxels that are not yet as they shall be; returns how many.
  set (places, on) {
    const { bits, bit } = this
    const wanted = on ? bit : 0
    let count = 0
    const turned = new Uint32Array(places.length)
    for (const place of places) {
      if ((bits[place] & bit) !== wanted) {
        bits[place] ^= bit
        turned[count++] = place
      }
    }
    if (count) {
      this.open.parts.push(turned.slice(0, count))
      this.tell(turned.subarray(0, count))
    }
    return count
  }

  once (places, on, z = null) {
    this.begin(z)
    this.set(places, on)
    return this.end()
  }

  undo () { return this.turn(this.done, this.undone) }

  redo () { return this.turn(this.undone, this.done) }

  turn (from, to) {
    this.end()
    const step = from.pop()
    if (!step) return null
    for (const place of step.places) this.bits[place] ^= this.bit
    to.push(step)
    this.tell(step.places)
    return step
  }

  replay (steps) {
    for (const step of steps) {
      for (const place of step.places) this.bits[place] ^= this.bit
      this.done.push(step)
      this.tell(step.places)
    }
  }

  tell (places) {
    const low = [...this.size]
    const high = [0, 0, 0]
    for (const place of places) {
      const at = this.voxel(place)
      for (let axis = 0; axis < 3; axis++) {
        if (at[axis] < low[axis]) low[axis] = at[axis]
        if (at[axis] > high[axis]) high[axis] = at[axis]
      }
    }
    this.changed(low, high)
  }

  // --- tools

  // Voxels of a brush at a place: a disc in the plane across `axis`, or a ball; `radius` in mm.
  brush ([x, y, z], axis, radius, ball, limits) {
    const centre = [x, y, z]
    const reach = this.spacing.map((step, n) => n === axis && !ball ? 0 : Math.floor(radius / step))
    const from = centre.map((at, n) => Math.max(0, at - reach[n]))
    const to = centre.map((at, n) => Math.min(this.size[n] - 1, at + reach[n]))
    const places = []
    for (let k = from[2]; k <= to[2]; k++) {
      for (let j = from[1]; j <= to[1]; j++) {
        for (let i = from[0]; i <= to[0]; i++) {
          const mm = ((i - x) * this.spacing[0]) ** 2 + ((j - y) * this.spacing[1]) ** 2 + ((k - z) * this.spacing[2]) ** 2
          if (mm > radius * radius && (i !== x || j !== y || k !== z)) continue
          const place = this.at(i, j, k)
          if (limits && (this.values[place] < limits[0] || this.values[place] > limits[1])) continue
          places.push(place)
        }
      }
    }
    return places
  }

  // Points on the way from one voxel to another, so close that the discs overlap.
  way (from, to, radius) {
    const mm = Math.hypot(...from.map((at, n) => (to[n] - at) * this.spacing[n]))
    const steps = Math.max(1, Math.ceil(mm / Math.max(radius / 2, Math.min(...this.spacing))))
    return Array.from({ length: steps }, (_, n) => from.map((at, axis) => Math.round(at + (to[axis] - at) * (n + 1) / steps)))
  }

  // The unmarked area around a voxel in its plane; null if it is not closed.
  hole (voxel, axis) {
    const [u, v] = [0, 1, 2].filter(one => one !== axis)
    const found = this.flood([this.at(...voxel)], place => !this.marked(place), axis)
    for (const place of found) {
      const at = this.voxel(place)
      if ([u, v].some(side => at[side] === 0 || at[side] === this.size[side] - 1)) return null
    }
    return found
  }

  // What is connected to a voxel and as bright as around it, no farther than `radius` mm.
  grow (voxel, tolerance, radius, limits) {
    let sum = 0
    const around = this.brush(voxel, 2, 1.5 * this.spacing[0], false)
    for (const place of around) sum += this.values[place]
    const low = Math.max(sum / around.length - tolerance, limits ? limits[0] : -Infinity)
    const high = Math.min(sum / around.length + tolerance, limits ? limits[1] : Infinity)
    const near = place => {
      const at = this.voxel(place)
      return at.reduce((mm, one, n) => mm + ((one - voxel[n]) * this.spacing[n]) ** 2, 0) <= radius * radius
    }
    return this.flood([this.at(...voxel)], place => this.values[place] >= low && this.values[place] <= high && near(place))
  }

  // The whole lesion at a voxel: of the mask that is drawn, to be removed, or else of another one, to be added.
  lesion (voxel) {
    const place = this.at(...voxel)
    const on = !this.marked(place)
    const wanted = on ? this.bits[place] & this.others : this.bit
    if (!wanted) return null
    return { on, places: this.flood([place], one => (this.bits[one] & wanted) !== 0) }
  }

  // Voxels that are reached from others through those that fit: by faces, in the plane across an axis or in space.
  flood (seeds, fits, across = -1) {
    const [width, height, depth] = this.size
    const step = [1, width, width * height]
    const seen = new Uint8Array(Math.ceil(this.bits.length / 8))
    const mark = place => {
      const there = seen[place >> 3] & (1 << (place & 7))
      seen[place >> 3] |= 1 << (place & 7)
      return there === 0
    }
    const found = []
    for (const seed of seeds) if (fits(seed) && mark(seed)) found.push(seed)
    for (let next = 0; next < found.length && found.length < MOST_GROWN; next++) {
      const place = found[next]
      const x = place % width
      const y = Math.floor(place / width) % height
      const z = Math.floor(place / step[2])
      const at = [x, y, z]
      for (let axis = 0; axis < 3; axis++) {
        if (axis === across) continue
        if (at[axis] > 0 && fits(place - step[axis]) && mark(place - step[axis])) found.push(place - step[axis])
        const last = [width, height, depth][axis] - 1
        if (at[axis] < last && fits(place + step[axis]) && mark(place + step[axis])) found.push(place + step[axis])
      }
    }
    return found
  }

  // The last two axial slices that were drawn on, with at least one between them, the lower one first.
  drawnSlices () {
    const slices = []
    for (let n = this.done.length - 1; n >= 0; n--) {
      const { z } = this.done[n]
      if (z === null || slices.includes(z)) continue
      slices.push(z)
      if (slices.length === 2) break
    }
    if (slices.length < 2 || Math.abs(slices[0] - slices[1]) < 2) return null
    return slices.sort((a, b) => a - b)
  }

  // Shapes between those that were drawn on two slices: where the mean of the distances to their edges is inside. Two
  // single areas are laid over each other first, since a lesion moves from slice to slice; of several nobody knows
  // which belong together.
  between (low, high) {
    const [first, last] = [low, high].map(z => this.drawnOn(z))
    if (!first.length || !last.length) return []
    const single = [first, last].every(shape => this.connected(shape))
    const way = single ? [0, 1].map(axis => this.centre(last, axis) - this.centre(first, axis)) : [0, 0]
    const shapes = [first, last].map(shape => this.shape(shape))
    const [width, height] = this.size
    const places = []
    for (let z = low + 1; z < high; z++) {
      const share = (z - low) / (high - low)
      const moved = shapes.map((_, n) => way.map(pixels => Math.round(pixels * (n ? 1 - share : -share))))
      const bounds = [0, 1].map(axis => [
        Math.max(0, Math.min(...shapes.map((shape, n) => shape.low[axis] - moved[n][axis]))),
        Math.min([width, height][axis] - 1, Math.max(...shapes.map((shape, n) => shape.high[axis] - moved[n][axis])))
      ])
      for (let y = bounds[1][0]; y <= bounds[1][1]; y++) {
        for (let x = bounds[0][0]; x <= bounds[0][1]; x++) {
          const [before, after] = shapes.map((shape, n) => shape.distance(x + moved[n][0], y + moved[n][1]))
          if ((1 - share) * before + share * after > 0) places.push(this.at(x, y, z))
        }
      }
    }
    return places
  }

  // Whether voxels of a slice are one area.
  connected (places) {
    const all = new Set(places)
    return this.flood(places.slice(0, 1), place => all.has(place), 2).length === all.size
  }

  centre (places, axis) {
    return places.reduce((sum, place) => sum + this.voxel(place)[axis], 0) / places.length
  }

  // An area of a slice as distances to its edge, above 0 inside; outside of its box by how far the box is.
  shape (places) {
    const low = [Infinity, Infinity]
    const high = [-Infinity, -Infinity]
    for (const place of places) {
      const at = this.voxel(place)
      for (const axis of [0, 1]) {
        low[axis] = Math.min(low[axis], at[axis] - 1)
        high[axis] = Math.max(high[axis], at[axis] + 1)
      }
    }
    const box = [high[0] - low[0] + 1, high[1] - low[1] + 1]
    const inside = new Uint8Array(box[0] * box[1])
    for (const place of places) {
      const [x, y] = this.voxel(place)
      inside[x - low[0] + box[0] * (y - low[1])] = 1
    }
    const distances = signedDistance(inside, box)
    const distance = (x, y) => {
      const near = [Math.max(low[0], Math.min(high[0], x)), Math.max(low[1], Math.min(high[1], y))]
      return distances[near[0] - low[0] + box[0] * (near[1] - low[1])] - Math.hypot(x - near[0], y - near[1])
    }
    return { low, high, distance }
  }

  // Marked areas of a slice that the steps have drawn in.
  drawnOn (z) {
    const seeds = []
    for (const step of this.done) {
      if (step.z === z) for (const place of step.places) if (this.marked(place)) seeds.push(place)
    }
    return this.flood(seeds, place => this.marked(place), 2)
  }
}

// Distance to the edge, above 0 inside; by two sweeps, in pixels.
function signedDistance (inside, [width, height]) {
  const far = (wanted) => {
    const distance = new Float32Array(inside.length)
    for (let n = 0; n < inside.length; n++) distance[n] = inside[n] === wanted ? 0 : 1e6
    const sweep = (n, i, j, side) => {
      const row = side * width
      const least = (condition, place, step) => {
        if (condition && distance[place] + step < distance[n]) distance[n] = distance[place] + step
      }
      const [before, after] = side < 0 ? [i > 0, i < width - 1] : [i < width - 1, i > 0]
      const rows = side < 0 ? j > 0 : j < height - 1
      least(before, n + side, 1)
      least(rows, n + row, 1)
      least(rows && before, n + row + side, Math.SQRT2)
      least(rows && after, n + row - side, Math.SQRT2)
    }
    for (let j = 0; j < height; j++) for (let i = 0; i < width; i++) sweep(i + width * j, i, j, -1)
    for (let j = height - 1; j >= 0; j--) for (let i = width - 1; i >= 0; i--) sweep(i + width * j, i, j, 1)
    return distance
  }
  const within = far(0)
  const without = far(1)
  return within.map((distance, n) => inside[n] ? distance - 0.5 : 0.5 - without[n])
}
