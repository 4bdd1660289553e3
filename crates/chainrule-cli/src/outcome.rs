//! How every command ends: its result as text or as one JSON document, its exit code, its error in a few lines.
//!
//! Exit codes: 0 is done, 1 the work failed, 2 the input is bad. A reader that goes away (`| head`) ends the command
//! quietly. Nothing here catches a panic: a panic is a fault of ours and shows itself.

use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

/// What a command returns.
pub type Outcome = Result<(), Failure>;

/// Why a command did not do what was asked. Its message is a few lines, the first of which stands alone.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The input is at fault: a value, a file, a name. Exit code 2.
    #[error("{0}")]
    Input(String),
    /// The input is well and the work failed all the same. Exit code 1.
    #[error("{0}")]
    Work(String),
    /// Nobody reads the output any more. Exit code 0, and nothing is said.
    #[error("the reader of the output went away")]
    ReaderGone,
}

impl Failure {
    /// Bad input: what is wrong, where, and what would be right.
    pub fn input(message: impl Display) -> Failure {
        Failure::Input(message.to_string())
    }

    /// Work that failed.
    pub fn work(message: impl Display) -> Failure {
        Failure::Work(message.to_string())
    }

    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            Failure::Input(_) => 2,
            Failure::Work(_) => 1,
            Failure::ReaderGone => 0,
        }
    }
}

/// An error while writing the result, and of other files whose message says enough.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            ErrorKind::BrokenPipe => Failure::ReaderGone,
            _ => Failure::work(error),
        }
    }
}

/// Writes text to stdout; an unread rest is no panic. Ends with a line break whether or not the text does.
pub fn print(text: &str) -> Outcome {
    let mut out = anstream::AutoStream::auto(io::stdout().lock());
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

/// Writes a result as one JSON document to stdout, indented for a terminal and on one line for a pipe.
///
/// A float that is not finite becomes `null`: JSON has no other word for it.
pub fn print_json(result: &impl Serialize) -> Outcome {
    let text =
        if io::stdout().is_terminal() { serde_json::to_string_pretty(result) } else { serde_json::to_string(result) };
    print(&text.map_err(Failure::work)?)
}

/// A line on stderr about what is being done. A closed stderr ends nothing.
pub fn tell(text: &str) {
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// A path as it is typed in a shell.
pub fn shell(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+:,@%\\".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// Says what went wrong, on stderr, and gives the exit code.
pub fn finish(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !matches!(failure, Failure::ReaderGone) {
                // If stderr is closed as well there is nobody to tell.
                let _ = writeln!(anstream::stderr(), "{}: {failure}", paint(ERROR, "error"));
            }
            ExitCode::from(failure.code())
        }
    }
}

/// The colour of the word `error`, as clap has it.
const ERROR: anstyle::Style = anstyle::AnsiColor::Red.on_default().bold();

/// Text in a style. Print it through `anstream`, which leaves colours out where they are not wanted.
pub fn paint(style: anstyle::Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}
