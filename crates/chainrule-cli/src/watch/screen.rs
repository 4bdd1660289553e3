//! The terminal while a training is watched: a thread of its own draws the board a few times a second and hears keys. The
//! terminal is given back as it was at the end, however that comes about, a panic included.

use std::cell;
use std::io::{self, IsTerminal, Write, stdin, stdout};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{self, KeyCode, KeyEventKind, KeyModifiers};
use crossterm::style::{Attribute, Color as Ink, Print, SetAttribute, SetForegroundColor};
use crossterm::terminal::{self, Clear, EnterAlternateScreen, LeaveAlternateScreen};
use crossterm::{execute, queue};
use ratatui_core::backend::{Backend, ClearType, WindowSize};
use ratatui_core::buffer::Cell;
use ratatui_core::layout::{Position, Size};
use ratatui_core::style::{Color, Modifier};
use ratatui_core::terminal::Terminal;

use super::board::Board;
use super::view::View;

/// Between two drawings.
const PAUSE: Duration = Duration::from_millis(250);
/// The exit code of a program that a second Ctrl-C ends.
const INTERRUPTED: i32 = 130;

/// Whether the terminal is ours at the moment.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Held while a frame is drawn, so that nothing is drawn on a terminal that has been given back.
static FRAME: Mutex<()> = Mutex::new(());
thread_local! {
    /// Whether it is this thread that draws a frame: what fails within one does not wait for it.
    static DRAWS: cell::Cell<bool> = const { cell::Cell::new(false) };
}

/// Whether there is a terminal that can be drawn on.
pub fn is_possible() -> bool {
    let dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb" || term.is_empty());
    stdout().is_terminal() && stdin().is_terminal() && !dumb
}

/// The screen of one training; dropping it gives the terminal back.
pub struct Screen {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    board: Mutex<Board>,
    over: AtomicBool,
    stop: Arc<AtomicBool>,
}

impl Shared {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Screen {
    /// Takes the terminal. `q` and Ctrl-C set `stop`; a second one ends the process at once.
    pub fn open(board: Board, stop: Arc<AtomicBool>) -> io::Result<Screen> {
        restore_on_panic();
        terminal::enable_raw_mode()?;
        TAKEN.store(true, Ordering::SeqCst);
        let shared = Arc::new(Shared { board: Mutex::new(board), over: AtomicBool::new(false), stop });
        let mut screen = Screen { shared: shared.clone(), thread: None };
        execute!(stdout(), EnterAlternateScreen, Hide)?;
        let mut terminal = Terminal::new(Crossterm(io::BufWriter::new(stdout())))?;
        screen.thread = Some(thread::spawn(move || show(&mut terminal, &shared)));
        Ok(screen)
    }

    /// Changes what is shown.
    pub fn update(&self, change: impl FnOnce(&mut Board)) {
        change(&mut self.shared.board());
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        restore();
    }
}

/// Gives the terminal back, if it is ours: the cursor is shown, what stood there before is there again, and keys are
/// heard as they were. For those who end the process at once, too.
pub fn restore() {
    let _frame = (!DRAWS.get()).then(|| FRAME.lock().unwrap_or_else(PoisonError::into_inner));
    if TAKEN.swap(false, Ordering::SeqCst) {
        // There is nobody to tell if the terminal is gone.
        let _ = execute!(stdout(), SetAttribute(Attribute::Reset), Show, LeaveAlternateScreen);
        let _ = terminal::disable_raw_mode();
    }
}

/// A panic's message must not go to a screen that is about to vanish.
fn restore_on_panic() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            usual(panic);
        }));
    });
}

/// Draws and listens until the training is over.
fn show(terminal: &mut Terminal<Crossterm>, shared: &Shared) {
    let begin = Instant::now();
    let view = View { colours: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) };
    while !shared.over.load(Ordering::Relaxed) && frame(terminal, shared, &view, begin.elapsed()) {
        listen(shared);
    }
}

/// Draws once, unless the terminal is not ours any more.
fn frame(terminal: &mut Terminal<Crossterm>, shared: &Shared, view: &View, time: Duration) -> bool {
    let board = shared.board().clone();
    let _frame = FRAME.lock().unwrap_or_else(PoisonError::into_inner);
    if !TAKEN.load(Ordering::SeqCst) {
        return false;
    }
    DRAWS.set(true);
    let drawn = terminal.draw(|frame| view.draw(&board, time, frame.area(), frame.buffer_mut()));
    DRAWS.set(false);
    drawn.is_ok()
}

/// Waits for keys until it is time to draw again.
fn listen(shared: &Shared) {
    let until = Instant::now() + PAUSE;
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        if shared.over.load(Ordering::Relaxed) {
            return;
        }
        // Short, so that a training that is over does not wait for this.
        match event::poll(left.min(Duration::from_millis(50))) {
            Ok(true) => match event::read() {
                Ok(event::Event::Key(key)) if key.kind != KeyEventKind::Release => {
                    let interrupt = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
                    if interrupt || key.code == KeyCode::Char('q') {
                        end(shared, interrupt);
                        return;
                    }
                }
                Ok(event::Event::Resize(..)) => return,
                _ => {}
            },
            Ok(false) => {}
            // No keys can be heard here; the training goes on all the same.
            Err(_) => thread::sleep(left),
        }
    }
}

fn end(shared: &Shared, interrupt: bool) {
    if shared.stop.swap(true, Ordering::Relaxed) && interrupt {
        restore();
        std::process::exit(INTERRUPTED);
    }
    shared.board().ending = true;
}

/// What ratatui draws with, on crossterm.
struct Crossterm(io::BufWriter<io::Stdout>);

impl Backend for Crossterm {
    type Error = io::Error;

    fn draw<'a, I: Iterator<Item = (u16, u16, &'a Cell)>>(&mut self, content: I) -> io::Result<()> {
        let mut at = None;
        let mut style = None;
        for (x, y, cell) in content {
            if at != Some((x, y)) {
                queue!(self.0, MoveTo(x, y))?;
            }
            at = Some((x + 1, y));
            if style != Some((cell.fg, cell.modifier)) {
                queue!(self.0, SetAttribute(Attribute::Reset), SetForegroundColor(ink(cell.fg)))?;
                for (modifier, attribute) in [(Modifier::BOLD, Attribute::Bold), (Modifier::DIM, Attribute::Dim)] {
                    if cell.modifier.contains(modifier) {
                        queue!(self.0, SetAttribute(attribute))?;
                    }
                }
                style = Some((cell.fg, cell.modifier));
            }
            queue!(self.0, Print(cell.symbol()))?;
        }
        queue!(self.0, SetAttribute(Attribute::Reset))
    }

    fn hide_cursor(&mut self) -> io::Result<()> {
        execute!(self.0, Hide)
    }

    fn show_cursor(&mut self) -> io::Result<()> {
        execute!(self.0, Show)
    }

    fn get_cursor_position(&mut self) -> io::Result<Position> {
        // The cursor is hidden and nothing is drawn at it.
        Ok(Position::ORIGIN)
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, position: P) -> io::Result<()> {
        let Position { x, y } = position.into();
        execute!(self.0, MoveTo(x, y))
    }

    fn clear(&mut self) -> io::Result<()> {
        execute!(self.0, Clear(terminal::ClearType::All))
    }

    fn clear_region(&mut self, region: ClearType) -> io::Result<()> {
        execute!(
            self.0,
            Clear(match region {
                ClearType::All => terminal::ClearType::All,
                ClearType::AfterCursor => terminal::ClearType::FromCursorDown,
                ClearType::BeforeCursor => terminal::ClearType::FromCursorUp,
                ClearType::CurrentLine => terminal::ClearType::CurrentLine,
                ClearType::UntilNewLine => terminal::ClearType::UntilNewLine,
            })
        )
    }

    fn size(&self) -> io::Result<Size> {
        let (width, height) = terminal::size()?;
        Ok(Size { width, height })
    }

    fn window_size(&mut self) -> io::Result<WindowSize> {
        Ok(WindowSize { columns_rows: self.size()?, pixels: Size::ZERO })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The colours that a view uses.
fn ink(colour: Color) -> Ink {
    match colour {
        Color::Indexed(colour) => Ink::AnsiValue(colour),
        Color::Red => Ink::Red,
        Color::Yellow => Ink::Yellow,
        Color::Cyan => Ink::Cyan,
        _ => Ink::Reset,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_ends_it_gives_the_terminal_back() {
        restore_on_panic();
        TAKEN.store(true, Ordering::SeqCst);
        let failed = thread::spawn(|| panic!("a training that fails")).join();
        assert!(failed.is_err() && !TAKEN.load(Ordering::SeqCst));
        // A failure within a frame does not wait for the end of the frame.
        TAKEN.store(true, Ordering::SeqCst);
        let failed = thread::spawn(|| {
            let _frame = FRAME.lock().unwrap_or_else(PoisonError::into_inner);
            DRAWS.set(true);
            panic!("a drawing that fails");
        });
        assert!(failed.join().is_err() && !TAKEN.load(Ordering::SeqCst));
        // Others wait for it, and draw nothing afterwards.
        TAKEN.store(true, Ordering::SeqCst);
        let frame = FRAME.lock().unwrap_or_else(PoisonError::into_inner);
        let other = thread::spawn(restore);
        thread::sleep(Duration::from_millis(20));
        assert!(TAKEN.load(Ordering::SeqCst));
        drop(frame);
        other.join().unwrap();
        assert!(!TAKEN.load(Ordering::SeqCst));
    }
}
