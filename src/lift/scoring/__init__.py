"""How well an image fits a text, as a number that other code can use or climb."""

from lift.scoring.faithful import Faithfulness as Faithfulness
from lift.scoring.faithful import faithfulness as faithfulness
from lift.scoring.heat import Heatmap as Heatmap
from lift.scoring.heat import heatmap as heatmap
from lift.scoring.score import Scorer as Scorer
from lift.scoring.score import similarity as similarity
