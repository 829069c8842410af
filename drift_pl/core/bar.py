"""Progress bars of nested stages on a terminal."""

from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text


class StageColumn(ProgressColumn):
    """Count, status, time and time left of a stage, see `progress.Stage`."""

    def render(self, task: Task) -> Text:
        stage = task.fields["stage"]
        return Text(stage.line().removeprefix(stage.title).strip())


def make_bar() -> Progress:
    """A bar per stage, in the order in which they began; each is gone when its stage ends."""
    title = TextColumn("{task.description}", markup=False)
    return Progress(SpinnerColumn(), title, BarColumn(bar_width=24), StageColumn(), transient=True)
