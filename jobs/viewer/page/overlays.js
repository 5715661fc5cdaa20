// What the data set says of a face, drawn over its film: box, landmarks, fitted model, the head's axes (x red, y green,
// z blue); and faces drawn from their model alone.
//
// All in pixels of the film. Boxes are stored in pixels of the source; crop_track says which square of it is seen.

const AXIS_SHARE = 0.35; // length of an axis, of the face's diagonal, as jobs.preview draws it
const NOSE_TIP = 4; // of MediaPipe's points
const AXES = ["#ff4040", "#30d060", "#5a8cff"];
const INK = "#ffe14d";
const MESH = "#78dcff";

/** Overlay -> the columns of a role that it is drawn from. */
export const OVERLAYS = {
  box: ["box", "crop_track"],
  points: ["landmarks"],
  model: ["model"],
  axes: ["angle", "box", "crop_track"],
};

/** Columns of the head's matrix M = Rz Ry Rx for (pitch, yaw, roll): where x, y and z point; y up, z to the viewer. */
export function headAxes([pitch, yaw, roll]) {
  const [sx, sy, sz] = [pitch, yaw, roll].map(Math.sin);
  const [cx, cy, cz] = [pitch, yaw, roll].map(Math.cos);
  return [
    [cz * cy, sz * cy, -sy],
    [cz * sy * sx - sz * cx, sz * sy * sx + cz * cx, cy * sx],
    [cz * sy * cx + sz * sx, sz * sy * cx - cz * sx, cy * cx],
  ];
}

const rowOf = ({ data, width }, frame) => data.subarray(frame * width, (frame + 1) * width);
const known = (row) => row.every(Number.isFinite);

/** The box of a frame in pixels of the film, null where there is none. */
function boxOf(columns, frame, side) {
  if (!columns.box || !columns.crop_track) return null;
  const [box, crop] = [rowOf(columns.box, frame), rowOf(columns.crop_track, frame)];
  if (!known(box) || !known(crop)) return null;
  const scale = side / (crop[2] - crop[0]);
  return [0, 1, 2, 3].map((k) => (box[k] - crop[k % 2]) * scale);
}

/** Draw over a film of `side` pixels; `columns` as `OVERLAYS` names them, each {data, width}, and the mesh's edges;
 *  `shown` is a Set of names. */
export function drawOverlays(canvas, columns, shown, frame, side) {
  const context = begin(canvas, side);
  const scale = canvas.width / side;
  const box = boxOf(columns, frame, side);
  const points = columns.landmarks && rowOf(columns.landmarks, frame);
  if (shown.has("points") && points) drawPoints(context, points, 3, INK, scale);
  if (shown.has("model") && columns.model && columns.edges) {
    drawLines(context, rowOf(columns.model, frame), columns.edges, MESH, scale);
  }
  if (shown.has("box") && box) {
    context.strokeStyle = INK;
    context.lineWidth = 1.2 / scale;
    context.strokeRect(box[0], box[1], box[2] - box[0], box[3] - box[1]);
  }
  const angle = columns.angle && rowOf(columns.angle, frame);
  if (shown.has("axes") && angle && known(angle) && box) {
    const middle = [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2];
    const nose = points && [points[3 * NOSE_TIP], points[3 * NOSE_TIP + 1]];
    const length = AXIS_SHARE * Math.hypot(box[2] - box[0], box[3] - box[1]);
    drawAxes(context, nose && known(nose) ? nose : middle, angle, length, scale);
  }
}

/** A face as its model alone, from points (frame, 478, 2) and the mesh's edges. */
export function drawModel(canvas, model, edges, frame, colour, side) {
  const context = begin(canvas, side);
  drawLines(context, rowOf(model, frame), edges, colour, canvas.width / side);
}

/** A head as its three axes alone, for predictions of which nothing else is known. */
export function drawHead(canvas, angle, frame, colour) {
  const context = begin(canvas, 1);
  const row = rowOf(angle, frame);
  if (!known(row)) return;
  const scale = canvas.width;
  context.strokeStyle = colour;
  context.lineWidth = 1.5 / scale;
  context.beginPath();
  const [right, up] = headAxes(row);
  for (let k = 0; k <= 48; k += 1) {
    const turn = (2 * Math.PI * k) / 48;
    const [u, v] = [0.24 * Math.cos(turn), 0.32 * Math.sin(turn)];
    context.lineTo(0.5 + u * right[0] + v * up[0], 0.5 - u * right[1] - v * up[1]);
  }
  context.stroke();
  drawAxes(context, [0.5, 0.5], row, 0.3, scale);
}

/** An empty canvas as large as it is shown, in units of the film's pixels. */
function begin(canvas, side) {
  const width = Math.max(1, Math.round(canvas.clientWidth * devicePixelRatio));
  if (canvas.width !== width || canvas.height !== width) canvas.width = canvas.height = width;
  const context = canvas.getContext("2d");
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, width, width);
  context.setTransform(width / side, 0, 0, width / side, 0, 0);
  return context;
}

function drawLines(context, points, edges, colour, scale) {
  context.strokeStyle = colour;
  for (const [name, alpha, width] of [["tesselation", 0.35, 0.6], ["contours", 1, 1.1], ["irises", 1, 1.1]]) {
    context.globalAlpha = alpha;
    context.lineWidth = width / scale;
    context.beginPath();
    for (const [a, b] of edges[name]) {
      if (Number.isNaN(points[2 * a] + points[2 * b])) continue; // the model does not have all points
      context.moveTo(points[2 * a], points[2 * a + 1]);
      context.lineTo(points[2 * b], points[2 * b + 1]);
    }
    context.stroke();
  }
  context.globalAlpha = 1;
}

function drawPoints(context, points, width, colour, scale) {
  const size = 1.4 * Math.max(1, devicePixelRatio) / scale;
  context.fillStyle = colour;
  for (let at = 0; at < points.length; at += width) {
    context.fillRect(points[at] - size / 2, points[at + 1] - size / 2, size, size);
  }
}

function drawAxes(context, [x, y], angle, length, scale) {
  context.lineWidth = 2.2 / scale;
  headAxes(angle).forEach((axis, k) => {
    context.strokeStyle = AXES[k];
    context.beginPath();
    context.moveTo(x, y);
    context.lineTo(x + length * axis[0], y - length * axis[1]);
    context.stroke();
  });
}
