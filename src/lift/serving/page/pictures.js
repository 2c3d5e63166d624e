// Pictures on their way into a query: chosen, dropped or pasted, and made small before they are
// sent, so that a phone's photo of 10 MB is a query of 150 KB.

const SIDE = 1024; // pixels of the longer side; more than any model looks at
const QUALITY = 0.85;
const MOST_BYTES = 128 * 2 ** 20;

// A file as a JPEG in a data URL. Orientation is applied, and what is transparent becomes white.
async function small(file) {
  if (file.size > MOST_BYTES) throw new Error(`${file.name} is too large to be a query.`);
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw new Error(`${file.name || "This"} is no picture that this browser can read.`);
  }
  const scale = Math.min(1, SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = canvas.getContext("2d", { alpha: false });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return canvas.toDataURL("image/jpeg", QUALITY);
}

const isFile = (transfer) => transfer && Array.from(transfer.types).includes("Files");

// Hand every picture that comes in to added({ name, url }), and what is none to failed(error).
export function takePictures({ inputs, drop, added, failed }) {
  const take = async (files) => {
    for (const file of files) {
      try {
        added({ name: file.name || "a picture", url: await small(file) });
      } catch (error) {
        failed(error);
      }
    }
  };

  for (const [button, input] of inputs) {
    button.addEventListener("click", () => input.click());
    input.addEventListener("change", () => {
      take(Array.from(input.files));
      input.value = ""; // the same file again is a change again
    });
  }

  document.addEventListener("paste", (event) => {
    const files = Array.from(event.clipboardData?.files ?? []);
    if (!files.length) return; // words: the field takes them
    event.preventDefault();
    take(files);
  });

  // Entering and leaving happens at every element on the way, so what is entered is counted.
  let inside = 0;
  const show = () => (drop.hidden = inside <= 0);
  document.addEventListener("dragenter", (event) => {
    if (!isFile(event.dataTransfer)) return;
    inside += 1;
    show();
  });
  document.addEventListener("dragleave", (event) => {
    if (!isFile(event.dataTransfer)) return;
    inside -= 1;
    show();
  });
  document.addEventListener("dragover", (event) => {
    if (isFile(event.dataTransfer)) event.preventDefault(); // else the browser opens the file
  });
  document.addEventListener("drop", (event) => {
    inside = 0;
    show();
    if (!isFile(event.dataTransfer)) return;
    event.preventDefault();
    take(Array.from(event.dataTransfer.files));
  });
}
