//! The `chainrule` command: arguments and printing only. Each subcommand is a module with its arguments and a `run`;
//! how they end (exit codes, errors, JSON) is in `outcome.rs`.

mod bench;
mod data;
mod derive;
mod evaluate;
mod experiment;
mod expression;
mod generate;
mod lens;
mod memory;
mod outcome;
mod predict;
mod predict_model;
mod report;
mod sample;
mod score;
mod settings;
mod summary;
mod train;
mod train_model;
mod watch;

use std::process::ExitCode;

/// Counts, for `bench`: a step of training allocates nothing.
#[global_allocator]
static ALLOCATOR: chainrule::execute::counting::Counting = chainrule::execute::counting::Counting;

use clap::{CommandFactory, Parser, Subcommand};

const EXAMPLES: &str = "\
Examples:
  chainrule derive \"sin(x^2)*exp(-x)\" --at x=1.5
  chainrule train
  chainrule predict --image seven.png
  chainrule summary digits-cnn
  chainrule doctor digits-cnn
  chainrule data list
  chainrule train digits-cnn
  chainrule evaluate runs/digits-cnn-1
  chainrule generate runs/text-gpt-1 --prompt \"ROMEO:\"
  chainrule sample runs/dcgan-1
  chainrule completions bash > ~/.local/share/bash-completion/completions/chainrule

Exit codes: 0 done, 1 the work failed, 2 the input is bad.";

/// Derivatives you can read, and training you can trust.
#[derive(Parser)]
#[command(name = "chainrule", version, after_help = EXAMPLES, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Bench(bench::BenchArgs),
    Data(data::DataArgs),
    Derive(derive::DeriveArgs),
    Check(lens::check::CheckArgs),
    Doctor(lens::doctor::DoctorArgs),
    Explain(lens::explain::ExplainArgs),
    Sharpness(lens::sharpness::SharpnessArgs),
    Memory(memory::MemoryArgs),
    Train(train::TrainArgs),
    Evaluate(evaluate::EvaluateArgs),
    Predict(predict::PredictArgs),
    Generate(generate::GenerateArgs),
    Sample(sample::SampleArgs),
    Score(score::ScoreArgs),
    Summary(summary::SummaryArgs),
    /// Write the completion script of a shell to stdout
    #[command(after_help = "\
Examples:
  chainrule completions bash > ~/.local/share/bash-completion/completions/chainrule
  chainrule completions zsh  > ~/.zfunc/_chainrule
  chainrule completions fish > ~/.config/fish/completions/chainrule.fish")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    outcome::finish(match Arguments::parse().command {
        Command::Bench(arguments) => bench::run(arguments),
        Command::Data(arguments) => data::run(arguments),
        Command::Derive(arguments) => derive::run(arguments),
        Command::Check(arguments) => lens::check::run(arguments),
        Command::Doctor(arguments) => lens::doctor::run(arguments),
        Command::Explain(arguments) => lens::explain::run(arguments),
        Command::Sharpness(arguments) => lens::sharpness::run(arguments),
        Command::Memory(arguments) => memory::run(arguments),
        Command::Train(arguments) => train::run(arguments),
        Command::Evaluate(arguments) => evaluate::run(arguments),
        Command::Predict(arguments) => predict::run(arguments),
        Command::Generate(arguments) => generate::run(arguments),
        Command::Sample(arguments) => sample::run(arguments),
        Command::Score(arguments) => score::run(arguments),
        Command::Summary(arguments) => summary::run(arguments),
        Command::Completions { shell } => completions(shell),
    })
}

fn completions(shell: clap_complete::Shell) -> outcome::Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "chainrule", &mut script);
    outcome::print(&String::from_utf8_lossy(&script))
}
