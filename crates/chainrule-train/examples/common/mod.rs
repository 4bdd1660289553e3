//! What the examples of `docs/reproductions.md` share: their arguments, and one line of JSON as the result.
#![allow(dead_code)] // No example uses all of it.

use std::error::Error;
use std::fmt::Display;
use std::process::ExitCode;
use std::time::Instant;

use serde::Serialize;

/// Arguments that each of them has.
#[derive(clap::Args, Debug)]
pub struct Common {
    /// Decides first values, order and all else that is random
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Take a few steps only, to see that it works
    #[arg(long)]
    pub quick: bool,
    /// Print the result as a line of JSON; progress goes to stderr
    #[arg(long)]
    pub json: bool,
}

impl Common {
    /// So many, or the few of a quick run.
    pub fn steps(&self, whole: usize, few: usize) -> usize {
        if self.quick { few } else { whole }
    }

    /// Says how it goes.
    pub fn say(&self, text: impl Display) {
        if self.json { eprintln!("{text}") } else { println!("{text}") }
    }

    /// Says what came out, with the seconds since `begin`.
    pub fn finish(&self, begin: Instant, result: impl Serialize) {
        let mut result = serde_json::to_value(result).expect("a result is JSON");
        result["seconds"] = begin.elapsed().as_secs_f64().into();
        if self.json { println!("{result}") } else { println!("{result:#}") }
    }
}

/// How an example ends: bad input in a line, with exit code 2.
pub fn ending(result: Result<(), Box<dyn Error>>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}
