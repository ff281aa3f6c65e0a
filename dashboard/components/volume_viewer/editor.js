// The editor: tools, keys and the way back to the dashboard, over the planes of the viewer.

const EDIT_TOOLS = { brush: 'Brush', eraser: 'Eraser', fill: 'Fill', grow: 'Grow', lesion: 'Lesion' }
const EDIT_HELP = {
  brush: 'Brush: drag to mark, with Ctrl to erase',
  eraser: 'Eraser: drag to clear',
  fill: 'Fill: click into a closed outline',
  grow: 'Grow: click; what is connected and as bright is marked',
  lesion: 'Lesion: click on a lesion to remove it, or on one of another mask to add it'
}
const EDIT_KEYS = 'B: brush · E: eraser · I: fill · G: grow · C: lesion · [ ]: size · T: 3D · H: within limits · ' +
  'N: interpolate · Ctrl + Z, Ctrl + Y: undo, redo'
const PAUSE = 60000 // ms without mouse or key that are no work
const drafts = new Map() // steps that were not sent yet, by what they were drawn on: for who comes back to it

class Editor {
  constructor (viewer, edit, tell) {
    this.viewer = viewer
    this.edit = edit
    this.tell = tell
    this.tool = 'brush'
    this.radius = 4
    this.ball = false
    this.limited = false
    this.limits = viewer.data.unit === 'HU' ? [-750, 100] : [85, 230]
    this.tolerance = viewer.data.unit === 'HU' ? 150 : 25
    this.worked = 0
    this.drawing = new Drawing({
      bits: viewer.bits,
      bit: 1 << edit.mask,
      others: viewer.data.names.reduce((all, { kind }, n) => kind === 'lungs' || n === edit.mask ? all : all | 1 << n, 0),
      values: viewer.values,
      size: viewer.size,
      spacing: [...viewer.data.spacing].reverse(),
      changed: (low, high) => viewer.uploadPart(low, high)
    })
    const draft = drafts.get(edit.key)
    if (draft) {
      this.drawing.replay(draft.steps)
      this.worked = draft.worked
      drafts.delete(edit.key)
    }
    const truth = viewer.data.names.reduce((all, { kind }, n) => kind === 'truth' ? all | 1 << n : all, 0)
    const { bit } = this.drawing
    this.begun = viewer.bits.some(one => ((one & bit) === 0) !== ((one & truth) === 0)) // a model's mask, say
    this.build()
    const left = draft?.steps.length
    this.say(left ? `Your ${left} last ${left === 1 ? 'step is' : 'steps are'} still there` : EDIT_HELP[this.tool])
  }

  // --- mouse and keys; true: it was for the editor

  down (event) {
    this.note()
    if (event.button !== 0 || event.shiftKey || !this.tool) return false
    const { at, plane } = this.viewer.tile(event)
    if (plane < 0 || plane > 2) return false
    event.preventDefault()
    event.stopPropagation()
    const frac = this.viewer.nv.canvasPos2frac(at)
    if (frac[0] < 0) return true
    const voxel = this.viewer.voxel(frac)
    const axis = 2 - plane
    this.viewer.lit = true
    if (this.viewer.choice !== String(this.edit.mask)) {
      this.viewer.choice = String(this.edit.mask)
      this.viewer.redraw()
    }
    if (this.tool === 'brush' || this.tool === 'eraser') {
      const on = this.tool === 'brush' && !event.ctrlKey
      this.drawing.begin(axis === 2 && !this.ball ? voxel[2] : null)
      this.stroke = { plane, axis, on, last: voxel }
      this.stamp([voxel])
    } else {
      this.click(voxel, axis)
    }
    return true
  }

  click (voxel, axis) {
    const { drawing } = this
    const z = axis === 2 ? voxel[2] : null
    const limits = this.limited ? this.limits : null
    if (this.tool === 'fill') {
      const places = drawing.marked(drawing.at(...voxel)) ? [] : drawing.hole(voxel, axis)
      if (places === null) this.say('Nothing filled: the outline is not closed')
      else this.finish(drawing.once(places, true, z), 'filled')
    } else if (this.tool === 'grow') {
      const places = drawing.grow(voxel, this.tolerance, this.reach(), limits)
      this.finish(drawing.once(places, true), 'marked')
    } else if (this.tool === 'lesion') {
      const found = drawing.lesion(voxel)
      if (!found) this.say('There is no lesion here, in no mask')
      else this.finish(drawing.once(found.places, found.on), found.on ? 'added' : 'removed')
    }
  }

  move (event) {
    this.note()
    this.showRing(event)
    if (!this.stroke) return false
    event.stopPropagation()
    const { at, plane } = this.viewer.tile(event)
    if (plane !== this.stroke.plane) return true
    const frac = this.viewer.nv.canvasPos2frac(at)
    if (frac[0] < 0) return true
    const voxel = this.viewer.voxel(frac)
    voxel[this.stroke.axis] = this.stroke.last[this.stroke.axis]
    this.stamp(this.drawing.way(this.stroke.last, voxel, this.radius))
    this.stroke.last = voxel
    this.viewer.tellPlace(event)
    return true
  }

  up () {
    if (!this.stroke) return
    const { on } = this.stroke
    this.stroke = null
    this.finish(this.drawing.end(), on ? 'marked' : 'cleared')
  }

  stamp (voxels) {
    const { axis, on } = this.stroke
    const limits = this.limited && on ? this.limits : null
    for (const voxel of voxels) this.drawing.set(this.drawing.brush(voxel, axis, this.radius, this.ball, limits), on)
    this.viewer.draw()
  }

  key (event) {
    this.note()
    const letter = event.key.length === 1 ? event.key.toLowerCase() : event.key
    if (event.ctrlKey || event.metaKey) {
      if (letter !== 'z' && letter !== 'y') return false
      this.back(letter === 'z' && !event.shiftKey)
    } else {
      const keys = {
        b: () => this.setTool('brush'), e: () => this.setTool('eraser'), i: () => this.setTool('fill'),
        g: () => this.setTool('grow'), c: () => this.setTool('lesion'), n: () => this.interpolate(),
        t: () => { this.ball = !this.ball }, h: () => { this.limited = !this.limited },
        '[': () => { this.radius = Math.max(0.5, this.radius - 1) }, ']': () => { this.radius = Math.min(40, this.radius + 1) }
      }
      if (event.altKey || !keys[letter]) return false
      keys[letter]()
      this.fields()
    }
    event.preventDefault()
    event.stopPropagation()
    return true
  }

  // --- what the buttons do

  setTool (tool) {
    this.tool = tool
    press(this.tools, tool)
    if (tool) {
      press(this.viewer.tools, '')
      this.say(EDIT_HELP[tool])
    }
    this.viewer.nv.opts.crosshairWidth = tool ? 0 : this.viewer.thin // lines over what is drawn on are in the way
    this.viewer.canvas.style.cursor = tool ? 'crosshair' : ''
    this.viewer.draw()
    this.ring.hidden = true
  }

  back (undo) {
    const step = undo ? this.drawing.undo() : this.drawing.redo()
    if (!step) this.say(undo ? 'There is nothing to undo' : 'There is nothing to redo')
    else this.finish(step.places.length, undo ? 'taken back' : 'done again')
  }

  interpolate () {
    const slices = this.drawing.drawnSlices()
    if (!slices) return this.say('Draw on two axial slices first, with others between them')
    const [low, high] = slices
    const count = this.drawing.once(this.drawing.between(low, high), true)
    this.finish(count, `marked between slices ${this.viewer.data.first + low + 1} and ${this.viewer.data.first + high + 1}`)
  }

  reach () {
    return Math.max(10, 8 * this.radius)
  }

  // After a step: what it did, in words.
  finish (count, words) {
    this.say(`${count.toLocaleString('en')} voxel${count === 1 ? '' : 's'} ${words}`)
    this.fields()
    this.viewer.solid()
    this.viewer.draw()
  }

  // Time in which somebody works: from one event to the next, if no pause lies between.
  note () {
    const now = performance.now()
    if (this.seen !== undefined && now - this.seen < PAUSE) this.worked += now - this.seen
    this.seen = now
  }

  // --- to the dashboard

  async send () {
    if (this.sending) return
    this.sending = true
    this.fields()
    this.say('Sending the mask')
    try {
      const body = await new Response(this.plain().pipeThrough(new CompressionStream('gzip'))).blob()
      const answer = await fetch(this.edit.path, { method: 'PUT', body, headers: token(), credentials: 'same-origin' })
      if (!answer.ok) throw new Error(await answer.text())
      this.say('The mask is there; save it below the picture')
      this.tell('sent', { key: this.edit.key, minutes: Math.round(this.worked / 6000) / 10 })
    } catch (error) {
      this.say(`The mask was not taken: ${error.message}`)
    }
    this.sending = false
    this.fields()
  }

  // 0 and 1, plane by plane.
  plain () {
    const { bits, bit, size } = this.drawing
    const plane = size[0] * size[1]
    let z = 0
    return new ReadableStream({
      pull (controller) {
        if (z === size[2]) return controller.close()
        controller.enqueue(Uint8Array.from(bits.subarray(z * plane, (z + 1) * plane), one => one & bit ? 1 : 0))
        z++
      }
    })
  }

  close () {
    this.drawing.end()
    if (this.drawing.dirty && !this.drawing.forgotten) {
      drafts.set(this.edit.key, { steps: this.drawing.done, worked: this.worked })
      if (drafts.size > 3) drafts.delete(drafts.keys().next().value)
    }
    this.viewer.nv.opts.crosshairWidth = this.viewer.thin
    this.bar.remove()
    this.ring.remove()
    this.viewer.canvas.style.cursor = ''
  }

  // --- how it is built

  build () {
    const { viewer } = this
    this.bar = element('div', { className: 'bar edit' })
    this.bar.setAttribute('role', 'group')
    this.bar.setAttribute('aria-label', 'Drawing')
    this.tools = group(EDIT_TOOLS, name => this.setTool(name))
    for (const button of this.tools.children) button.title = EDIT_HELP[button.dataset.name]
    const unit = viewer.data.measured ? 'mm' : 'px'
    this.sizeField = element('input', { type: 'range', min: 0.5, max: 40, step: 0.5 })
    this.sizeTold = element('span', { className: 'number' })
    this.sizeField.addEventListener('input', () => { this.radius = Number(this.sizeField.value); this.fields() })
    const size = labelled('Radius', this.sizeField)
    size.append(this.sizeTold)
    this.unit = unit
    this.ballBox = element('input', { type: 'checkbox' })
    this.ballBox.addEventListener('change', () => { this.ball = this.ballBox.checked })
    this.limitBox = element('input', { type: 'checkbox' })
    this.limitBox.addEventListener('change', () => { this.limited = this.limitBox.checked; this.fields() })
    this.limitFields = [0, 1].map(n => {
      const field = element('input', { type: 'number', step: 10, ariaLabel: n ? 'Highest value' : 'Lowest value' })
      field.addEventListener('change', () => { this.limits[n] = Number(field.value) })
      return field
    })
    const limits = labelled(`Within ${viewer.data.unit}`, this.limitBox, true)
    const toleranceField = element('input', { type: 'number', step: 10, min: 0, value: this.tolerance })
    toleranceField.addEventListener('change', () => { this.tolerance = Math.max(0, Number(toleranceField.value)) })
    this.toleranceLabel = labelled('Grow ±', toleranceField)
    const act = (textContent, work, title) => {
      const button = element('button', { type: 'button', textContent, title })
      button.addEventListener('click', work)
      return button
    }
    this.undoButton = act('Undo', () => this.back(true), 'Ctrl + Z')
    this.redoButton = act('Redo', () => this.back(false), 'Ctrl + Y')
    this.sendButton = act('Done', () => this.send(), 'Take the mask to the dashboard, to be saved')
    this.sendButton.className = 'main'
    this.told = element('span', { className: 'said' })
    this.told.setAttribute('role', 'status')
    this.bar.append(this.tools, size, labelled('3D', this.ballBox, true), limits, ...this.limitFields,
      this.toleranceLabel, act('Interpolate', () => this.interpolate(), 'Between the last two slices that you drew on'),
      this.undoButton, this.redoButton, this.sendButton, this.told)
    viewer.bar.after(this.bar)
    this.ring = element('div', { className: 'ring', hidden: true })
    viewer.view.append(this.ring)
    viewer.view.addEventListener('mouseleave', () => { this.ring.hidden = true }, { signal: viewer.ended.signal })
    this.setTool(this.tool)
    this.fields()
  }

  fields () {
    this.sizeField.value = this.radius
    this.sizeTold.textContent = `${this.radius} ${this.unit}`
    this.ballBox.checked = this.ball
    this.limitBox.checked = this.limited
    this.limitFields.forEach((field, n) => { field.value = this.limits[n]; field.disabled = !this.limited })
    this.undoButton.disabled = !this.drawing.done.length
    this.redoButton.disabled = !this.drawing.undone.length
    this.sendButton.disabled = this.sending || !(this.begun || this.drawing.dirty)
    this.viewer.root.dataset.steps = this.drawing.done.length
  }

  // The outline of the brush at the mouse.
  showRing (event) {
    const { viewer } = this
    const { at, plane } = viewer.tile(event)
    this.ring.hidden = true
    if (!['brush', 'eraser'].includes(this.tool) || plane < 0 || plane > 2) return
    const ends = [0, 16].map(pixels => viewer.nv.canvasPos2frac([at[0] + pixels, at[1]]))
    if (ends.some(frac => frac[0] < 0)) return
    const mm = Math.hypot(...[0, 1, 2].map(n => (ends[1][n] - ends[0][n]) * viewer.size[n] * this.drawing.spacing[n]))
    if (!mm) return
    const pixels = this.radius / mm * 16 / (viewer.nv.uiData.dpr || 1)
    const box = viewer.view.getBoundingClientRect()
    Object.assign(this.ring.style, {
      left: `${event.clientX - box.left - pixels}px`, top: `${event.clientY - box.top - pixels}px`,
      width: `${2 * pixels}px`, height: `${2 * pixels}px`
    })
    this.ring.hidden = false
  }

  say (words) {
    this.told.textContent = words
  }
}

function token () {
  const found = document.cookie.match(/(?:^|; )_streamlit_xsrf=([^;]*)/)
  return found ? { 'X-Xsrftoken': decodeURIComponent(found[1]) } : {}
}
