//! `chainrule train --watch` on a terminal: its screen is taken, keys are heard, and whatever ends the training gives the
//! terminal back as it was, with what the training has to say below what stood there before.
#![cfg(unix)]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

const TAKEN: &str = "\x1b[?1049h";
const GIVEN_BACK: &str = "\x1b[?1049l";
/// What the training of a debug build takes at most, beside other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// A command on a pseudo-terminal of 100 columns and 30 lines.
struct Session {
    child: Child,
    terminal: File,
    seen: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Session {
    fn start(folder: &Path, arguments: &[&str]) -> Session {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        tcsetwinsize(&master, Winsize { ws_row: 30, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let end = || OwnedFd::from(File::options().read(true).write(true).open(&name).unwrap());
        let mut command = Command::new(env!("CARGO_BIN_EXE_chainrule"));
        command.current_dir(folder).args(arguments).env("TERM", "xterm-256color").env_remove("CHAINRULE_DATA");
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        // It holds copies of the terminal's other end, which are to be the last ones.
        drop(command);
        let (terminal, seen) = (File::from(master), Arc::new(Mutex::new(Vec::new())));
        let (mut from, into) = (terminal.try_clone().unwrap(), seen.clone());
        let reader = thread::spawn(move || {
            let mut bytes = [0; 4096];
            // The end of a terminal that nobody writes to any more is an error.
            while let Ok(count @ 1..) = from.read(&mut bytes) {
                into.lock().unwrap().extend(&bytes[..count]);
            }
        });
        Session { child, terminal, seen, reader }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }

    /// Whether keys come line by line and are shown, as they do where nothing has taken the terminal.
    fn is_usual(&self) -> bool {
        tcgetattr(&self.terminal).unwrap().local_modes.contains(LocalModes::ICANON | LocalModes::ECHO)
    }

    fn wait_for(&mut self, text: &str) {
        let begin = Instant::now();
        while !self.text().contains(text) {
            if begin.elapsed() > PATIENCE {
                self.child.kill().unwrap();
                panic!("{text:?} was not shown; what was:\n{}", self.text());
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn press(&mut self, keys: &[u8]) {
        self.terminal.write_all(keys).unwrap();
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The exit code, whether the terminal is as it was, and what stood on it when the screen was gone.
    fn end(mut self) -> (Option<i32>, bool, String) {
        let begin = Instant::now();
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if begin.elapsed() > PATIENCE => {
                    self.child.kill().unwrap();
                    panic!("it did not end; what was shown:\n{}", self.text());
                }
                None => thread::sleep(Duration::from_millis(10)),
            }
        };
        let usual = self.is_usual();
        let seen = self.seen.clone();
        self.reader.join().unwrap();
        let text = String::from_utf8_lossy(&seen.lock().unwrap()).into_owned();
        (status.code(), usual, text.rsplit_once(GIVEN_BACK).map_or(String::new(), |(_, after)| after.to_owned()))
    }
}

/// A perceptron on the digits that trains until it is stopped, unless it has so few steps.
fn file(steps: u64, rate: &str) -> String {
    format!(
        "[data]\nset = \"digits\"\nvalidation = 0.2\n[model]\nlayers = [\"flatten\", {{ linear = 16, name = \"hidden\" }}, \
         \"relu\", {{ linear = \"classes\", name = \"out\" }}]\n[optimizer]\nname = \"sgd\"\nrate = {rate}\n[train]\n\
         steps = {steps}\nbatch = 32\n"
    )
}

#[test]
fn whatever_ends_a_watched_training_gives_the_terminal_back() {
    type Act = fn(&mut Session);
    // A file, what is done when the screen is there, the exit code, and what is said then.
    let cases: [(&str, String, Act, Option<i32>, &str); 6] = [
        ("end", file(20_000, "0.05"), |_| {}, Some(0), "watched"),
        ("q", file(1_000_000, "0.05"), |session| session.press(b"q"), Some(0), "stopped"),
        ("ctrl-c", file(1_000_000, "0.05"), |session| session.press(b"\x03"), Some(0), "stopped"),
        ("interrupt", file(1_000_000, "0.05"), |session| session.signal(Signal::INT), Some(0), "stopped"),
        ("terminate", file(1_000_000, "0.05"), |session| session.signal(Signal::TERM), Some(0), "stopped"),
        ("lost", file(1_000_000, "1e30"), |_| {}, Some(1), "became"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let mut problems = Vec::new();
    for (name, file, act, code, said) in cases {
        let at = folder.path().join(format!("{name}.toml"));
        fs::write(&at, file).unwrap();
        let mut session = Session::start(folder.path(), &["train", at.to_str().unwrap(), "--watch-every", "50"]);
        session.wait_for(TAKEN);
        // The title of the screen, and the first layer's row once a step was looked at.
        session.wait_for(&format!("runs/{name}-1"));
        if name != "lost" {
            session.wait_for("hidden");
        }
        if session.is_usual() && name != "end" {
            problems.push(format!("{name}: keys come line by line while it is watched"));
        }
        act(&mut session);
        let (ended, usual, after) = session.end();
        if ended != code || !usual || !after.contains(said) {
            problems.push(format!("{name}: exit code {ended:?}, terminal as it was: {usual}, then it said {after:?}"));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
