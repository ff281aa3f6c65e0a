// The volume viewer in the browser. NiiVue lays out the planes, the cross-hair, the ruler and 3D; the voxels of a slice
// are drawn by a shader of our own, straight from the values as stored: NiiVue would first turn the whole volume into
// colours, at every change of the window, which takes minutes where there is no graphics card.
//
// NiiVue itself holds a small stand-in of the same extent. Its voxels are seen in 3D only.

const LAYOUTS = { planes: 'Planes', axial: 'Axial', coronal: 'Coronal', sagittal: 'Sagittal', render: '3D', all: 'All' }
const SLICE_TYPES = { axial: 0, coronal: 1, sagittal: 2, planes: 3, render: 4, all: 3 }
const TOOLS = { cross: 'Cross-hair', window: 'Window', pan: 'Pan', ruler: 'Ruler' }
const DRAG = { cross: 8, window: 0, pan: 3, ruler: 2 }
const SCAN_UNIT = 13
const MASK_UNIT = 14
const COARSE = 112 // voxels of the longest side of what is seen in 3D
const DRAW_EVERY = 250 // ms between two pictures while voxels come
const BONE = 220 // HU
const KEYS = 'Wheel, ↑ ↓, PgUp PgDn: slice · Ctrl + wheel, + −: zoom · 0: all as at first · right-drag: window · ' +
  'Shift-drag: pan · 1 to 6: layout · W: next window · M: masks · O: outlines · L: lungs · D: ruler · ' +
  'X: cross-hair · F: full screen'

const SHADER = `#version 300 es
precision highp int;
precision highp float;
uniform highp isampler3D scan;
uniform highp usampler3D marked;
uniform int axCorSag;
uniform float opacity;
uniform vec2 shades;
uniform bool hasMasks;
uniform bool outlined;
uniform bool differing;
uniform int lungs;
uniform int truth;
uniform int model;
uniform int models;
uniform float strength;
uniform vec3 colours[6];
in vec3 texPos;
out vec4 color;

int across() { return axCorSag == 0 ? 2 : axCorSag == 1 ? 1 : 0; }

float value() {
  ivec3 size = textureSize(scan, 0);
  vec3 at = texPos * vec3(size) - 0.5;
  int k = across();
  at[k] = floor(texPos[k] * float(size[k]));
  ivec3 low = clamp(ivec3(floor(at)), ivec3(0), size - 1);
  ivec3 high = min(low + 1, size - 1);
  vec3 share = clamp(at - vec3(low), 0.0, 1.0);
  int u = k == 0 ? 1 : 0;
  int v = k == 2 ? 1 : 2;
  ivec3 right = low; right[u] = high[u];
  ivec3 top = low; top[v] = high[v];
  ivec3 both = right; both[v] = high[v];
  float below = mix(float(texelFetch(scan, low, 0).r), float(texelFetch(scan, right, 0).r), share[u]);
  float above = mix(float(texelFetch(scan, top, 0).r), float(texelFetch(scan, both, 0).r), share[u]);
  return mix(below, above, share[v]);
}

int bits(vec3 at) {
  ivec3 size = textureSize(marked, 0);
  return int(texelFetch(marked, clamp(ivec3(floor(at * vec3(size))), ivec3(0), size - 1), 0).r);
}

int kind(int b) {
  bool m = (b & model) != 0;
  bool t = (b & truth) != 0;
  if (model != 0 && truth != 0) return m && t ? 1 : t ? 2 : m ? 3 : 0;
  return m ? 4 : t ? 5 : 0;
}

float share(int b) {
  int all = 0;
  int yes = 0;
  for (int n = 0; n < 16; n++) {
    int bit = 1 << n;
    if ((models & bit) != 0) { all++; if ((b & bit) != 0) yes++; }
  }
  return all == 0 ? 0.0 : 1.0 - abs(2.0 * float(yes) / float(all) - 1.0);
}

void main() {
  float grey = clamp((value() - shades.x) / (shades.y - shades.x), 0.0, 1.0);
  color = vec4(vec3(grey), opacity);
  if (!hasMasks) return;
  int here = bits(texPos);
  vec3 dx = dFdx(texPos) * 1.2;
  vec3 dy = dFdy(texPos) * 1.2;
  int a = bits(texPos + dx); int b = bits(texPos - dx); int c = bits(texPos + dy); int d = bits(texPos - dy);
  if (differing) {
    float s = share(here);
    color.rgb = mix(color.rgb, mix(vec3(0.55, 0.06, 0.3), vec3(1.0, 0.95, 0.6), s), s);
  } else {
    int what = kind(here);
    bool rim = kind(a) != what || kind(b) != what || kind(c) != what || kind(d) != what;
    if (what > 0 && (rim || !outlined)) color.rgb = mix(color.rgb, colours[what], outlined ? 1.0 : strength);
  }
  if (lungs != 0 && (here & lungs) != 0 && ((a & b & c & d) & lungs) == 0) color.rgb = colours[0];
}`

const viewers = new WeakMap()

export default function ({ data, parentElement, setStateValue, setTriggerValue }) {
  let viewer = viewers.get(parentElement)
  if (!viewer) {
    viewer = new Viewer(parentElement, setStateValue, setTriggerValue)
    viewers.set(parentElement, viewer)
  }
  viewer.show(data)
  return () => {
    viewers.delete(parentElement)
    viewer.close()
  }
}

class Viewer {
  constructor (parent, tell, trigger) {
    this.tell = tell
    this.trigger = trigger
    this.layout = 'planes'
    this.tool = 'cross'
    this.window = 0
    this.choice = ''
    this.lit = true
    this.lungs = true
    this.outlined = false
    this.strength = 0.5
    this.ended = new AbortController()
    this.build(parent)
  }

  // --- what it is asked to show

  async show (data) {
    const before = this.data
    this.data = data
    this.begun = before && before.scan === data.scan ? this.begun : performance.now()
    try {
      if (!this.nv) {
        this.starting ??= this.start()
        await this.starting
      }
      if (this.ended.signal.aborted || this.data !== data) return
      const other = this.scan !== data.scan
      if (other) await this.newScan(data)
      else if (before && before.start !== data.start) this.goTo(2, data.start)
      if (this.data !== data) return // what was asked for meanwhile has begun what it needs itself
      this.controls()
      if (this.marks !== data.masks || other) this.newMasks(data)
      else this.newEdit()
      this.draw()
    } catch (error) {
      this.fail(error)
    }
  }

  async start () {
    if (!document.createElement('canvas').getContext('webgl2')) throw new Error('This browser has no WebGL 2')
    // a component's script is a blob, from which a path alone leads nowhere
    this.library = await import(window.location.origin + this.data.library)
    this.nv = new this.library.Niivue({
      logLevel: 'error', loadingText: '', isRadiologicalConvention: true, sagittalNoseLeft: true,
      showAllOrientationMarkers: true, crosshairColor: [0.9, 0.62, 0, 0.9], crosshairWidthUnit: 'mm',
      fontColor: [0.85, 0.85, 0.85, 1], rulerColor: [0.34, 0.71, 0.91, 1], rulerWidth: 2,
      measureLineColor: [0.34, 0.71, 0.91, 1], measureTextColor: [0.34, 0.71, 0.91, 1], dragAndDropEnabled: false,
      viewModeHotKey: '', clipPlaneHotKey: '', cycleClipPlaneHotKey: '', multiplanarShowRender: 0, multiplanarPadPixels: 12
    })
    await this.nv.attachToCanvas(this.canvas, false)
    this.nv.setCustomSliceShader(SHADER)
    this.program = this.nv.customSliceShader.program
    const gl = this.nv.gl
    gl.useProgram(this.program)
    gl.uniform1i(this.at('scan'), SCAN_UNIT)
    gl.uniform1i(this.at('marked'), MASK_UNIT)
    this.textures = {}
    this.texture(MASK_UNIT, [1, 1, 1], gl.R8UI)
    this.setLayout(this.layout)
    this.setTool(this.tool)
  }

  async newScan (data) {
    this.fetching?.abort()
    this.fetching = new AbortController()
    const { signal } = this.fetching
    const [depth, height, width] = data.shape
    const size = [width, height, depth]
    const gl = this.nv.gl
    const most = gl.getParameter(gl.MAX_3D_TEXTURE_SIZE)
    if (Math.max(...size) > most) throw new Error(`This browser draws at most ${most} voxels a side`)
    this.scan = data.scan
    this.size = size
    this.marks = undefined
    this.bits = null
    this.values = new Int16Array(width * height * depth)
    this.windows = data.windows
    this.setWindow(Math.min(this.window, data.windows.length - 1))
    this.texture(SCAN_UNIT, size, gl.R16I)
    this.standIn([4, 4, 4], new Uint8Array(64))
    this.thin = Math.max(...size.map((length, axis) => length * data.spacing[2 - axis])) / 400 // about a pixel
    this.nv.opts.crosshairWidth = this.thin
    this.nv.scene.crosshairPos = [0.5, 0.5, (data.start + 0.5) / depth]
    this.root.dataset.state = 'loading'
    const first = new Promise((resolve, reject) => {
      this.stream(data.scan, this.values, SCAN_UNIT, gl.RED_INTEGER, gl.SHORT, data.start, signal, 'Scan', resolve)
        .then(() => {
          this.root.dataset.state = 'ready'
          this.root.dataset.ready = Math.round(performance.now() - this.begun)
          this.solid()
          resolve()
        }, reject)
    })
    await first
    this.root.dataset.first = Math.round(performance.now() - this.begun)
  }

  async newMasks (data) {
    this.marks = data.masks
    this.fetchingMasks?.abort()
    this.fetchingMasks = new AbortController()
    const { signal } = this.fetchingMasks
    const gl = this.nv.gl
    this.endEdit()
    this.bits = null
    this.root.dataset.masks = data.masks ? 'loading' : 'none'
    if (!data.masks) return
    const wide = data.bytes === 2
    const bits = wide ? new Uint16Array(this.values.length) : new Uint8Array(this.values.length)
    this.texture(MASK_UNIT, this.size, wide ? gl.R16UI : gl.R8UI)
    this.bits = bits
    try {
      const z = this.place()[2]
      await this.stream(data.masks, bits, MASK_UNIT, gl.RED_INTEGER, wide ? gl.UNSIGNED_SHORT : gl.UNSIGNED_BYTE, z,
        signal, 'Masks')
      this.root.dataset.masks = 'ready'
      this.newEdit()
      this.solid()
    } catch (error) {
      this.fail(error)
    }
  }

  // What is drawn on: begun once the masks are there, and kept for as long as the page offers it.
  newEdit () {
    const { edit } = this.data
    if (!edit) return this.endEdit()
    if (this.editor?.edit.key === edit.key) {
      this.editor.edit = edit // where to send it may be another place
      return
    }
    this.endEdit()
    if (this.root.dataset.masks !== 'ready') return
    this.editor = new Editor(this, edit, this.trigger)
    this.choice = String(edit.mask)
    if (this.layout === 'planes') this.setLayout('axial')
    this.root.dataset.edit = 'ready'
    this.keys.textContent = `${EDIT_KEYS} · ${KEYS}`
    this.controls()
  }

  endEdit () {
    this.editor?.close()
    this.editor = null
    delete this.root.dataset.edit
    this.keys.textContent = KEYS
  }

  // Voxels into an array and a texture while they come, from one slice on to the last and then from the lowest on.
  async stream (path, values, unit, format, type, from, signal, name, first) {
    const answer = await fetch(`${path}?from=${from}`, { headers: token(), signal, credentials: 'same-origin' })
    if (!answer.ok) throw new Error(`${name}: ${await answer.text()}`)
    const [width, height, depth] = this.size
    const bytes = new Uint8Array(values.buffer)
    const plane = width * height * values.BYTES_PER_ELEMENT
    const reader = answer.body.getReader()
    let come = 0
    let shown = 0
    let drawn = -Infinity
    for (;;) {
      const { done, value } = await reader.read()
      signal.throwIfAborted()
      if (value) {
        for (let offset = 0; offset < value.length;) {
          const place = (from * plane + come) % bytes.length
          const count = Math.min(value.length - offset, bytes.length - place)
          bytes.set(value.subarray(offset, offset + count), place)
          offset += count
          come += count
        }
      }
      const planes = Math.floor(come / plane)
      if (planes > shown && (performance.now() - drawn > DRAW_EVERY || done || planes === depth)) {
        this.upload(values, unit, format, type, (from + shown) % depth, planes - shown)
        shown = planes
        this.draw()
        drawn = performance.now()
        first?.()
        this.progress.textContent = planes < depth ? `${name} ${Math.floor(100 * planes / depth)} %` : ''
      }
      if (done) break
    }
    if (come !== bytes.length) throw new Error(`${name}: ${come} of ${bytes.length} bytes came`)
  }

  upload (values, unit, format, type, z, count) {
    const [width, height, depth] = this.size
    const gl = this.nv.gl
    gl.activeTexture(gl.TEXTURE0 + unit)
    gl.bindTexture(gl.TEXTURE_3D, this.textures[unit])
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1)
    while (count > 0) {
      const here = Math.min(count, depth - z)
      const part = values.subarray(z * width * height, (z + here) * width * height)
      gl.texSubImage3D(gl.TEXTURE_3D, 0, 0, 0, z, width, height, here, format, type, part)
      count -= here
      z = (z + here) % depth
    }
  }

  // A box of the masks anew, both ends included.
  uploadPart (low, high) {
    const gl = this.nv.gl
    const [width, height] = this.size
    const extent = high.map((end, axis) => end - low[axis] + 1)
    const wide = this.data.bytes === 2
    gl.activeTexture(gl.TEXTURE0 + MASK_UNIT)
    gl.bindTexture(gl.TEXTURE_3D, this.textures[MASK_UNIT])
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1)
    const skips = [[gl.UNPACK_ROW_LENGTH, width], [gl.UNPACK_IMAGE_HEIGHT, height], [gl.UNPACK_SKIP_PIXELS, low[0]],
      [gl.UNPACK_SKIP_ROWS, low[1]]]
    for (const [name, value] of skips) gl.pixelStorei(name, value)
    const part = this.bits.subarray(low[2] * width * height)
    gl.texSubImage3D(gl.TEXTURE_3D, 0, ...low, ...extent, gl.RED_INTEGER, wide ? gl.UNSIGNED_SHORT : gl.UNSIGNED_BYTE, part)
    for (const [name] of skips) gl.pixelStorei(name, 0)
  }

  texture (unit, [width, height, depth], format) {
    const gl = this.nv.gl
    gl.deleteTexture(this.textures[unit] ?? null)
    const made = gl.createTexture()
    gl.activeTexture(gl.TEXTURE0 + unit)
    gl.bindTexture(gl.TEXTURE_3D, made)
    for (const filter of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) {
      gl.texParameteri(gl.TEXTURE_3D, filter, gl.NEAREST)
    }
    gl.texStorage3D(gl.TEXTURE_3D, 1, format, width, height, depth)
    this.textures[unit] = made
  }

  // --- what NiiVue holds

  standIn (dims, voxels) {
    const [dz, dy, dx] = this.data.spacing
    const step = [dx, dy, dz].map((mm, axis) => mm * this.size[axis] / dims[axis])
    const affine = [step[0], 0, 0, step[0] / 2, 0, step[1], 0, step[1] / 2, 0, 0, step[2], step[2] / 2, 0, 0, 0, 1]
    const { NVImage } = this.library
    const image = new NVImage()
    image.hdr = NVImage.createNiftiHeader(dims, step, affine, 2)
    image.calMinMax = () => {
      Object.assign(image, { cal_min: 0, cal_max: 255, robust_min: 0, robust_max: 255, global_min: 0, global_max: 255 })
      return [0, 255, 0, 255]
    }
    image.init(voxels.buffer, 'scan', 'gray', 1, null, NaN, NaN, true, 0.02, false, false, '', 0, 1, NaN, NaN, false,
      null, 0, voxels.buffer)
    this.nv.drawBitmap = null
    this.nv.volumes = []
    this.nv.addVolume(image)
    this.isSolid = false
  }

  // Bones, lungs and masks for 3D, coarse; made anew only while somebody looks.
  solid () {
    if (this.layout !== 'render' && this.layout !== 'all') {
      this.isSolid = false
      return
    }
    const [width, height, depth] = this.size
    const [dz, dy, dx] = this.data.spacing
    const extents = [width * dx, height * dy, depth * dz]
    const unit = Math.max(...extents) / COARSE
    const dims = extents.map((mm, axis) => Math.max(4, Math.min(this.size[axis], Math.round(mm / unit))))
    const { lungs } = this.masks()
    const bone = this.data.unit === 'HU' ? BONE : 250
    const base = new Uint8Array(dims[0] * dims[1] * dims[2])
    const areas = new Uint8Array(base.length)
    const pick = (at, axis) => Math.floor((at + 0.5) * this.size[axis] / dims[axis])
    const xs = Array.from({ length: dims[0] }, (_, at) => pick(at, 0))
    let place = 0
    for (let k = 0; k < dims[2]; k++) {
      for (let j = 0; j < dims[1]; j++) {
        const row = width * (pick(j, 1) + height * pick(k, 2))
        for (let i = 0; i < dims[0]; i++, place++) {
          const bits = this.bits ? this.bits[row + xs[i]] : 0
          if (this.values[row + xs[i]] > bone) base[place] = 220
          else if (bits & lungs) base[place] = 110
          areas[place] = this.kind(bits)
        }
      }
    }
    this.standIn(dims, base)
    const { nv } = this
    const c = this.data.colours
    const order = [[0, 0, 0], c.hit, c.missed, c.alarm, c.model, c.truth]
    nv.drawLut = this.library.cmapper.makeDrawLut({
      R: order.map(one => one[0]), G: order.map(one => one[1]), B: order.map(one => one[2]),
      A: order.map((_, n) => n ? 255 : 0), I: order.map((_, n) => n), labels: order.map(String)
    })
    nv.drawOpacity = 1
    nv.drawBitmap = areas
    nv.drawTexture = nv.r8Tex(nv.drawTexture, nv.gl.TEXTURE7, nv.back.dims, true)
    nv.refreshDrawing(false)
    nv.updateGLVolume()
    this.isSolid = true
    this.draw()
  }

  // --- what is chosen

  masks () {
    const found = { lungs: 0, truth: 0, model: 0, models: 0, differing: false }
    this.data.names.forEach(({ kind }, place) => {
      const bit = 1 << place
      if (kind === 'lungs') found.lungs |= this.lungs ? bit : 0
      if (kind === 'truth') found.truth |= this.lit && this.choice !== '' ? bit : 0
      if (kind === 'model') found.models |= bit
    })
    if (this.lit && /^\d+$/.test(this.choice)) found.model = 1 << Number(this.choice)
    found.differing = this.lit && this.choice === 'differing'
    return found
  }

  kind (bits) {
    const { model, truth } = this.chosen ??= this.masks()
    const m = bits & model
    const t = bits & truth
    if (model && truth) return m && t ? 1 : t ? 2 : m ? 3 : 0
    return m ? 4 : t ? 5 : 0
  }

  at (name) {
    return this.nv.gl.getUniformLocation(this.program, name)
  }

  // Soon, and once for all that is asked until then.
  draw () {
    if (this.asked || !this.nv || !this.size) return
    this.asked = requestAnimationFrame(() => {
      this.asked = 0
      if (this.ended.signal.aborted) return
      const gl = this.nv.gl
      const chosen = this.chosen = this.masks()
      gl.useProgram(this.program)
      gl.uniform2f(this.at('shades'), this.low, this.high)
      gl.uniform1i(this.at('hasMasks'), this.bits ? 1 : 0)
      gl.uniform1i(this.at('outlined'), this.outlined ? 1 : 0)
      gl.uniform1i(this.at('differing'), chosen.differing ? 1 : 0)
      for (const name of ['lungs', 'truth', 'model', 'models']) gl.uniform1i(this.at(name), chosen[name])
      gl.uniform1f(this.at('strength'), this.strength)
      const c = this.data.colours
      const flat = [c.lungs, c.hit, c.missed, c.alarm, c.model, c.truth].flat().map(value => value / 255)
      gl.uniform3fv(this.at('colours'), flat)
      for (const unit of [SCAN_UNIT, MASK_UNIT]) {
        gl.activeTexture(gl.TEXTURE0 + unit)
        gl.bindTexture(gl.TEXTURE_3D, this.textures[unit])
      }
      this.nv.drawScene()
      this.tellPlace()
      this.root.dataset.drawn = Number(this.root.dataset.drawn ?? 0) + 1
    })
  }

  redraw () {
    this.controls()
    this.chosen = null
    this.solid()
    this.draw()
  }

  setLayout (layout) {
    this.layout = layout
    this.nv.opts.multiplanarShowRender = layout === 'all' ? 1 : 0
    this.nv.opts.sliceType = SLICE_TYPES[layout]
    press(this.layouts, layout)
    if (this.size && !this.isSolid && this.root.dataset.state === 'ready') this.solid()
    this.draw()
  }

  setTool (tool) {
    this.tool = tool
    this.nv.setMouseEventConfig({
      leftButton: { primary: DRAG[tool], withShift: DRAG.pan }, rightButton: 0, centerButton: DRAG.pan
    })
    this.nv.opts.dragModePrimary = DRAG[tool]
    if (tool !== 'ruler') this.nv.clearMeasurements()
    this.editor?.setTool('')
    press(this.tools, tool)
    this.draw()
  }

  setWindow (place) {
    this.window = place
    ;[, this.low, this.high] = this.windows[place]
    this.presets.value = String(place)
    this.draw()
  }

  place () {
    return this.voxel(this.nv.scene.crosshairPos)
  }

  voxel (frac) {
    return this.size.map((length, axis) => Math.max(0, Math.min(length - 1, Math.floor(frac[axis] * length))))
  }

  goTo (axis, index) {
    const length = this.size[axis]
    const at = Math.max(0, Math.min(length - 1, index))
    const frac = [...this.nv.scene.crosshairPos]
    frac[axis] = (at + 0.5) / length
    this.nv.scene.crosshairPos = frac
    this.draw()
  }

  zoom (factor) {
    const pan = [...this.nv.scene.pan2Dxyzmm]
    const next = Math.max(0.5, Math.min(20, pan[3] * factor))
    const mm = this.nv.frac2mm(this.nv.scene.crosshairPos)
    for (let axis = 0; axis < 3; axis++) pan[axis] += (pan[3] - next) * mm[axis]
    pan[3] = next
    this.nv.scene.pan2Dxyzmm = pan
    this.draw()
  }

  reset () {
    this.nv.scene.pan2Dxyzmm = [0, 0, 0, 1]
    this.nv.setScale(1)
    this.nv.clearMeasurements()
    this.setWindow(this.window)
  }

  full () {
    if (document.fullscreenElement) document.exitFullscreen()
    else this.root.requestFullscreen?.()
  }

  // --- mouse and keys

  tile (event) {
    const box = this.canvas.getBoundingClientRect()
    const dpr = this.nv.uiData.dpr || 1
    const at = [(event.clientX - box.left) * dpr, (event.clientY - box.top) * dpr]
    const index = this.nv.tileIndex(...at)
    return { at, plane: index < 0 ? -1 : this.nv.screenSlices[index].axCorSag }
  }

  wheel (event) {
    if (!this.size) return
    this.editor?.note()
    event.stopPropagation()
    const { plane } = this.tile(event)
    if (plane < 0 && this.layout !== 'render') return // beside the planes the wheel moves the page
    event.preventDefault()
    if (!event.deltaY) return
    const up = event.deltaY < 0
    if (plane === 4 || this.layout === 'render') {
      this.nv.setScale(Math.max(0.3, Math.min(8, this.nv.volScaleMultiplier * (up ? 1.1 : 1 / 1.1))))
    } else if (event.ctrlKey || event.metaKey) {
      this.zoom(up ? 1.15 : 1 / 1.15)
    } else if (plane >= 0) {
      const axis = 2 - plane
      this.goTo(axis, this.place()[axis] + (up ? 1 : -1))
    }
  }

  down (event) {
    this.root.focus({ preventScroll: true })
    if (this.editor?.down(event)) return
    if (event.button !== 2 && !(event.button === 0 && this.tool === 'window' && !event.shiftKey)) return
    event.preventDefault()
    event.stopPropagation()
    this.dragged = { x: event.clientX, y: event.clientY, low: this.low, high: this.high }
  }

  move (event) {
    if (!this.dragged && this.editor?.move(event)) return
    if (!this.dragged) {
      if (this.size) this.tellPlace(event)
      if (event.buttons) this.draw()
      return
    }
    event.stopPropagation()
    const { x, y, low, high } = this.dragged
    const pixel = (this.windows[0][2] - this.windows[0][1]) / 500
    const width = Math.max(pixel, high - low + (event.clientX - x) * pixel)
    const centre = (low + high) / 2 + (event.clientY - y) * pixel
    this.low = centre - width / 2
    this.high = centre + width / 2
    this.presets.value = ''
    this.draw()
    this.tellPlace(event)
  }

  key (event) {
    const inField = ['SELECT', 'INPUT', 'BUTTON'].includes(event.composedPath()[0].tagName)
    const inText = event.composedPath()[0].type === 'number'
    if (!inText && this.size && this.editor?.key(event)) return
    if (event.altKey || event.ctrlKey || event.metaKey || event.key === 'Tab' || event.key === 'Escape') return
    if (inText || !this.size || (inField && /^(Arrow|Page|Home|End| |Enter)/.test(event.key))) {
      event.stopPropagation()
      return
    }
    const axis = { coronal: 1, sagittal: 0 }[this.layout] ?? 2
    const step = by => this.goTo(axis, this.place()[axis] + by)
    const keys = {
      ArrowUp: () => step(1), ArrowDown: () => step(-1), PageUp: () => step(10), PageDown: () => step(-10),
      Home: () => this.goTo(axis, 0), End: () => this.goTo(axis, this.size[axis] - 1),
      ArrowLeft: () => this.goTo(0, this.place()[0] + 1), ArrowRight: () => this.goTo(0, this.place()[0] - 1),
      '+': () => this.zoom(1.15), '=': () => this.zoom(1.15), '-': () => this.zoom(1 / 1.15), 0: () => this.reset(),
      w: () => this.setWindow((this.window + 1) % this.windows.length), f: () => this.full(),
      m: () => { this.lit = !this.lit; this.redraw() }, l: () => { this.lungs = !this.lungs; this.redraw() },
      o: () => { this.outlined = !this.outlined; this.redraw() },
      d: () => this.data.measured && this.setTool(this.tool === 'ruler' ? 'cross' : 'ruler'),
      x: () => { this.nv.opts.crosshairWidth = this.nv.opts.crosshairWidth ? 0 : this.thin; this.draw() }
    }
    Object.keys(LAYOUTS).forEach((layout, place) => { keys[place + 1] = () => this.setLayout(layout) })
    const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key]
    if (!act) return // it is the page's, whose buttons have keys as well
    event.stopPropagation()
    event.preventDefault()
    act()
  }

  // --- what it says

  tellPlace (event) {
    let at = this.place()
    if (event) {
      const frac = this.nv.canvasPos2frac(this.tile(event).at)
      if (frac[0] >= 0) at = this.voxel(frac)
    }
    const [x, y, z] = at
    const place = x + this.size[0] * (y + this.size[1] * z)
    const value = this.values[place].toLocaleString('en').replace('-', '−')
    const words = [`x ${x + 1}, y ${y + 1}`, `slice ${this.data.first + z + 1} of ${this.data.slices}`]
    words.push(`${value} ${this.data.unit}`)
    if (this.bits) {
      const bits = this.bits[place]
      const kind = this.kind(bits)
      if (kind) words.push(this.kinds()[kind])
      if (this.data.names.some((mask, n) => mask.kind === 'lungs' && bits & (1 << n))) words.push('lung')
    }
    const width = Math.round(this.high - this.low)
    const centre = Math.round((this.high + this.low) / 2)
    this.told.textContent = `${words.join(' · ')} · window ${centre} / ${width}`.replace('window -', 'window −')
  }

  kinds () {
    const { name = '', kind = '' } = /^\d+$/.test(this.choice) ? this.data.names[Number(this.choice)] ?? {} : {}
    if (kind === 'drawn') return ['', 'kept', 'removed', 'added', 'drawn', 'true mask']
    return ['', 'true positive', 'missed', 'false alarm', name, 'true mask']
  }

  controls () {
    const { names, colours, measured } = this.data
    const choices = [['', 'None']]
    const models = names.map((mask, place) => ({ ...mask, place })).filter(one => /^(model|together|drawn)$/.test(one.kind))
    for (const { name, place } of models) choices.push([String(place), name])
    if (names.some(mask => mask.kind === 'truth')) choices.push(['truth', 'True mask'])
    if (models.filter(one => one.kind === 'model').length > 1) choices.push(['differing', 'Where models differ'])
    const text = JSON.stringify(choices)
    if (text !== this.offered) {
      this.offered = text
      this.shown.replaceChildren(...choices.map(([value, label]) => element('option', { value, textContent: label })))
      if (!this.choice || !choices.some(([value]) => value === this.choice)) this.choice = choices[1]?.[0] ?? ''
    }
    this.shown.value = this.choice
    this.shown.parentElement.hidden = choices.length < 2
    this.fillBox.hidden = choices.length < 2
    this.outlinedBox.checked = this.outlined
    this.outlinedBox.parentElement.hidden = choices.length < 2
    this.lungsBox.checked = this.lungs
    this.lungsBox.parentElement.hidden = !names.some(mask => mask.kind === 'lungs')
    if (this.labels !== this.windows) {
      this.labels = this.windows
      const options = this.windows.map(([label], n) => element('option', { value: String(n), textContent: label }))
      this.presets.replaceChildren(...options)
      this.presets.value = String(this.window)
    }
    this.tools.querySelector('[data-name=ruler]').hidden = !measured
    if (!measured && this.tool === 'ruler') this.setTool('cross')
    this.legend(models, colours)
  }

  legend (models, colours) {
    const chosen = this.masks()
    const kinds = this.kinds()
    const rows = []
    if (chosen.model && chosen.truth) rows.push([colours.hit, kinds[1]], [colours.missed, kinds[2]], [colours.alarm, kinds[3]])
    else if (chosen.model) rows.push([colours.model, kinds[4]])
    else if (chosen.truth && !chosen.differing) rows.push([colours.truth, kinds[5]])
    if (chosen.differing) rows.push([[255, 242, 153], 'half of the models mark it, half do not'])
    if (chosen.lungs) rows.push([colours.lungs, 'lungs'])
    this.legends.replaceChildren(...rows.map(([colour, label]) => {
      const swatch = element('i')
      swatch.style.background = `rgb(${colour})`
      const row = element('span')
      row.append(swatch, label)
      return row
    }))
  }

  fail (error) {
    if (error.name === 'AbortError' || this.ended.signal.aborted) return
    this.root.dataset.state = 'failed'
    this.progress.textContent = error.message
    if (/WebGL|voxels a side/.test(error.message)) this.tell('trouble', error.message)
    else console.warn(error.message)
  }

  // --- how it is built

  build (parent) {
    const { signal } = this.ended
    this.root = element('div', { className: 'viewer', tabIndex: 0 })
    this.root.setAttribute('role', 'application')
    this.root.setAttribute('aria-label', 'Volume viewer')
    this.layouts = group(LAYOUTS, name => this.nv && this.setLayout(name))
    this.tools = group(TOOLS, name => this.nv && this.setTool(name))
    this.presets = element('select')
    this.presets.addEventListener('change', () => this.setWindow(Number(this.presets.value)))
    this.shown = element('select')
    this.shown.addEventListener('change', () => { this.choice = this.shown.value; this.lit = true; this.redraw() })
    const fill = element('input', { type: 'range', min: 0, max: 100, step: 5, value: 50 })
    fill.addEventListener('input', () => { this.strength = fill.value / 100; this.draw() })
    this.outlinedBox = element('input', { type: 'checkbox' })
    this.outlinedBox.addEventListener('change', () => { this.outlined = this.outlinedBox.checked; this.redraw() })
    this.lungsBox = element('input', { type: 'checkbox' })
    this.lungsBox.addEventListener('change', () => { this.lungs = this.lungsBox.checked; this.redraw() })
    const full = element('button', { type: 'button', textContent: 'Full screen' })
    full.addEventListener('click', () => this.full())
    this.fillBox = labelled('Opacity', fill)
    const bar = this.bar = element('div', { className: 'bar' })
    bar.append(this.layouts, this.tools, labelled('Window', this.presets), labelled('Mask', this.shown), this.fillBox,
      labelled('Outlines', this.outlinedBox, true), labelled('Lungs', this.lungsBox, true), full)
    this.canvas = element('canvas')
    const view = this.view = element('div', { className: 'view' })
    this.told = element('div', { className: 'told' })
    this.progress = element('div', { className: 'told top' })
    view.append(this.canvas, this.told, this.progress)
    this.legends = element('div', { className: 'legend' })
    this.keys = element('p', { className: 'keys', textContent: KEYS })
    this.root.append(bar, view, this.legends, this.keys)
    const early = { capture: true, signal } // before NiiVue, which would do something else
    view.addEventListener('wheel', event => this.wheel(event), { ...early, passive: false })
    view.addEventListener('mousedown', event => this.down(event), early)
    view.addEventListener('mousemove', event => this.move(event), early)
    window.addEventListener('mouseup', () => { this.dragged = null; this.editor?.up(); this.draw() }, { signal })
    window.addEventListener('beforeunload', event => this.editor?.drawing.dirty && event.preventDefault(), { signal })
    view.addEventListener('contextmenu', event => event.preventDefault(), early)
    view.addEventListener('dblclick', event => { event.stopPropagation(); this.reset() }, early)
    view.addEventListener('mouseleave', () => this.size && this.tellPlace(), { signal })
    this.root.addEventListener('keydown', event => this.key(event), early)
    this.root.addEventListener('keyup', event => event.stopPropagation(), early)
    parent.append(this.root)
  }

  // A browser has some sixteen WebGL contexts, and voxels are large: nothing may wait for the garbage collector.
  close () {
    this.ended.abort()
    this.fetching?.abort()
    this.fetchingMasks?.abort()
    cancelAnimationFrame(this.asked)
    this.endEdit()
    this.values = this.bits = null
    if (this.nv) {
      this.nv.cleanup()
      this.nv.gl.getExtension('WEBGL_lose_context')?.loseContext()
      this.nv.volumes = []
      this.nv.drawBitmap = null
    }
    this.root.remove()
  }
}

function element (tag, properties = {}) {
  return Object.assign(document.createElement(tag), properties)
}

function labelled (text, field, after = false) {
  const label = element('label')
  label.append(...(after ? [field, text] : [text, field]))
  return label
}

function group (names, choose) {
  const made = element('div', { className: 'group' })
  made.setAttribute('role', 'group')
  for (const [name, textContent] of Object.entries(names)) {
    const button = element('button', { type: 'button', textContent })
    button.dataset.name = name
    button.addEventListener('click', () => choose(name))
    made.append(button)
  }
  return made
}

function press (buttons, name) {
  for (const button of buttons.children) button.setAttribute('aria-pressed', String(button.dataset.name === name))
}
