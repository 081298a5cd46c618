"""A panel of the window: inputs, a button that begins work in a thread, its progress, and one that stops it."""

from collections.abc import Callable, Sequence
from html import escape
from typing import Any, TypeVar

from magicgui.widgets import Container, Label, ProgressBar, PushButton
from magicgui.widgets.bases import Widget

from cytoforge.errors import Interrupted, UserError
from cytoforge.napari.work import Job, Report

EVERY = 200
"""milliseconds between two looks at the progress of the work"""
BAD = "#e0524a"
Result = TypeVar("Result")


class Panel(Container[Widget]):
    """Inputs above a button for the work and one that stops it, a bar, and what is said of the result.

    A subclass begins its work in `run`. The thread of the work touches no widget: the panel looks at its `Job`.
    """

    def __init__(self, viewer: Any, inputs: Sequence[Widget], action: str, about: str) -> None:
        from qtpy.QtWidgets import QSizePolicy

        self.viewer = viewer
        self.job: Job | None = None
        self.button = PushButton(text=action)
        self.halt = PushButton(text="Stop", enabled=False)
        self.bar = ProgressBar(min=0, max=100, value=0, visible=False)
        self.note, self.said = Label(value=""), Label(value=escape(about))
        buttons = Container(widgets=[self.button, self.halt], layout="horizontal", labels=False)
        super().__init__(widgets=[*inputs, buttons, self.bar, self.note, self.said])
        buttons.margins = (0, 0, 0, 0)
        self.said.native.setWordWrap(True)
        self.said.native.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Minimum)
        self.button.changed.connect(self.press)
        self.halt.changed.connect(self.stop)
        self.native.destroyed.connect(self._leave)

    def run(self) -> None:
        """Begin what the button is for; raises UserError where inputs are missing."""
        raise NotImplementedError

    def press(self) -> None:
        """Do what the button does."""
        try:
            self.run()
        except UserError as error:
            self.tell(str(error), wrong=True)

    def begin(self, work: Callable[[Report], Result], done: Callable[[Result], None]) -> None:
        """Do work in a thread, and call `done` with its result in the thread of the window."""
        from napari.qt.threading import create_worker
        from qtpy.QtCore import QTimer

        job = self.job = Job()
        self.button.enabled, self.halt.enabled, self.bar.visible = False, True, True
        self.tell("")
        timer = QTimer(self.native)
        timer.timeout.connect(lambda: self._look(job))
        timer.start(EVERY)

        def returned(result: Any) -> None:
            if self.job is not job:
                return
            timer.stop()
            self._rest()
            done(result)

        def failed(error: Exception) -> None:
            if self.job is not job:
                return
            timer.stop()
            self._rest()
            ours = isinstance(error, UserError | Interrupted)
            told = str(error) if ours else f"{type(error).__name__}: {error}"
            self.tell(told, wrong=not isinstance(error, Interrupted))

        create_worker(job.do, work, _connect={"returned": returned, "errored": failed})

    def stop(self) -> None:
        """Let the work stop as soon as it can."""
        if self.job is not None:
            self.job.stop()
            self.halt.enabled = False
            self.tell("Stops after the step that it is at.")

    def tell(self, sentence: str, *, wrong: bool = False, colour: str | None = None) -> None:
        """Show sentences below the buttons; an error is also shown as a notification of napari."""
        colour = BAD if wrong else colour
        text = escape(sentence).replace("\n", "<br>")
        self.said.value = f'<span style="color: {colour}">{text}</span>' if colour else text
        if wrong:
            from napari.utils.notifications import show_error

            show_error(sentence)

    def _look(self, job: Job) -> None:
        self.bar.value = round(100 * job.share)
        self.note.value = escape(job.note)

    def _leave(self) -> None:
        """Stop the work of a window that has been closed, and forget it: what comes of it has no place to be shown."""
        job, self.job = self.job, None
        if job is not None:
            job.stop()

    def _rest(self) -> None:
        self.job = None
        self.note.value = ""
        self.button.enabled, self.halt.enabled, self.bar.visible = True, False, False
