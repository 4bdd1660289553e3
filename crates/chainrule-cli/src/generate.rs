//! `chainrule generate`: a trained language model goes on with a text, letter by letter on the terminal.

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use chainrule_nn::models::Sampling;
use chainrule_train::data::Tokenizer;
use chainrule_train::experiment::Continuation;
use clap::Args;
use serde::Serialize;

use crate::experiment::{Asked, failure};
use crate::outcome::{self, Failure, Outcome};

/// Let a trained language model write
#[derive(Args)]
#[command(after_help = "\
Examples:
  chainrule generate
  chainrule generate runs/text-gpt-1 --prompt \"ROMEO:\" --tokens 500
  chainrule generate runs/text-lstm-1 --temperature 0.7 --top-k 20 --seed 3
  chainrule generate runs/text-gpt-1 --temperature 0      always the likeliest")]
pub struct GenerateArgs {
    #[command(flatten)]
    asked: Asked,
    /// What it goes on with [default: the beginning of a line]
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// Tokens to write
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    tokens: u32,
    /// How much is left to chance: 0 takes the likeliest token, 1 draws as the model says
    #[arg(long, value_name = "T", default_value_t = 0.8, allow_negative_numbers = true)]
    temperature: f64,
    /// Draw from so many of the likeliest tokens only
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Draw from the likeliest tokens that together have this probability
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    top_p: Option<f64>,
    /// Decides what is drawn
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Take the network that was best by validation, instead of the last
    #[arg(long)]
    best: bool,
    /// Print the result as JSON, when it is whole
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Written {
    run: PathBuf,
    prompt: String,
    text: String,
    tokens: Vec<u32>,
}

pub fn run(arguments: GenerateArgs) -> Outcome {
    let GenerateArgs { temperature, top_k, top_p, .. } = arguments;
    let sampling = Sampling { temperature, top_k, top_p };
    sampling.check().map_err(|problem| Failure::input(option_of(&problem)))?;
    let (run, experiment) = arguments.asked.experiment()?;
    let at = run.path().display();
    let Some(tokenizer) = experiment.tokenizer().cloned() else {
        return Err(Failure::input(format!("{at} is no language model: it has no tokenizer; try `chainrule predict`")));
    };
    let network = experiment.trained(&run, arguments.best).map_err(failure)?;
    let prompt = arguments.prompt.clone().unwrap_or_else(|| "\n".into());
    let tokens = match (tokenizer.encode(&prompt), &arguments.prompt) {
        (Ok(tokens), _) if !tokens.is_empty() => tokens,
        (_, None) => vec![0],
        (Ok(_), _) => return Err(Failure::input("--prompt: it is empty; say at least one character")),
        (Err(error), _) => return Err(Failure::input(format!("--prompt: {error}"))),
    };
    let window = experiment.example().inputs[0].shape.first().copied().unwrap_or(1);
    let continuation = Continuation { tokens: arguments.tokens as usize, sampling, seed: arguments.seed, window };
    let mut stream = Stream::new(&tokenizer, !arguments.json);
    stream.show(arguments.prompt.as_deref().unwrap_or(""));
    let begin = Instant::now();
    let written = continuation.run(&network, &tokens, |token| stream.say(token));
    written.map_err(|error| Failure::input(format!("{at}: {error}")))?;
    let seconds = begin.elapsed().as_secs_f64();
    let (tokens, text) = stream.finish()?;
    eprintln!("{} tokens in {seconds:.2} s ({:.0} a second)", tokens.len(), tokens.len() as f64 / seconds);
    match arguments.json {
        true => outcome::print_json(&Written { run: run.path().to_path_buf(), prompt, text, tokens }),
        false => Ok(()),
    }
}

/// The option that a number belongs to, as it is typed.
fn option_of(problem: &str) -> String {
    let (name, rest) = problem.split_once(' ').unwrap_or((problem, ""));
    format!("--{} {rest}", name.replace('_', "-"))
}

/// Text that is shown as its tokens come. The middle of a character waits for the rest.
struct Stream<'a> {
    tokenizer: &'a Tokenizer,
    shown: bool,
    tokens: Vec<u32>,
    /// Bytes of the text that were written.
    written: usize,
    failed: Option<std::io::Error>,
}

impl<'a> Stream<'a> {
    fn new(tokenizer: &'a Tokenizer, shown: bool) -> Stream<'a> {
        Stream { tokenizer, shown, tokens: Vec::new(), written: 0, failed: None }
    }

    fn show(&mut self, text: &str) {
        if !self.shown || text.is_empty() {
            return;
        }
        let mut out = std::io::stdout().lock();
        if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            self.failed = Some(error);
        }
    }

    /// Takes a token; false if nobody reads any more.
    fn say(&mut self, token: u32) -> bool {
        self.tokens.push(token);
        let text = self.tokenizer.decode(&self.tokens);
        let whole = text.trim_end_matches(char::REPLACEMENT_CHARACTER);
        if let Some(new) = whole.get(self.written..) {
            self.show(new);
            self.written = whole.len();
        }
        self.failed.is_none()
    }

    fn finish(mut self) -> Result<(Vec<u32>, String), Failure> {
        let text = self.tokenizer.decode(&self.tokens);
        let rest = text.get(self.written..).unwrap_or("").to_owned();
        self.show(&format!("{rest}\n"));
        match self.failed {
            Some(error) => Err(error.into()),
            None => Ok((self.tokens, text)),
        }
    }
}
