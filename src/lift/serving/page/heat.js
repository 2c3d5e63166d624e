// Where in a picture a text is: the cosines of its patches as colours over it.

// Colour and opacity of the least and the largest cosine, as in `lift.pages.heat`: dark blue and
// bright amber are told apart in black and white, and by eyes that see no red.
const FAR = [8, 14, 60, 200];
const NEAR = [255, 190, 0, 150];
const MOST_CELLS = 256;

const isShare = (value) => Number.isFinite(value) && value >= -0.001 && value <= 1.001;

// Draw an answer of /heatmap on a canvas that lies in a box of the picture's size. Returns the
// least and the largest cosine, or null where the answer can't be drawn.
export function drawHeat(canvas, { rows, cols, values, frame }) {
  const flat = values.flat();
  const fits = rows > 0 && cols > 0 && Math.max(rows, cols) <= MOST_CELLS;
  if (!fits || flat.length !== rows * cols || !flat.every(Number.isFinite)) return null;
  if (frame.length !== 4 || !frame.every(isShare)) return null;
  const low = Math.min(...flat);
  const high = Math.max(...flat);
  canvas.width = cols;
  canvas.height = rows;
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(cols, rows);
  flat.forEach((value, i) => {
    const place = high > low ? (value - low) / (high - low) : 0.5; // one value: nothing stands out
    const [red, green, blue, opacity] = place < 0.5 ? FAR : NEAR;
    pixels.data.set([red, green, blue, opacity * Math.abs(2 * place - 1)], 4 * i);
  });
  context.putImageData(pixels, 0, 0);
  const [left, top, right, bottom] = frame;
  canvas.style.left = `${100 * left}%`;
  canvas.style.top = `${100 * top}%`;
  canvas.style.width = `${100 * (right - left)}%`;
  canvas.style.height = `${100 * (bottom - top)}%`;
  return { low, high };
}
