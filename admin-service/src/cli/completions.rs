//! `latchkey completions`: what a shell needs to complete commands and flags.

use clap::CommandFactory;
use clap_complete::Shell;

use super::show::print;
use super::{Cli, Failure};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  source <(latchkey completions bash)                                       for this shell
  latchkey completions bash > ~/.local/share/bash-completion/completions/latchkey
  latchkey completions zsh > ~/.zfunc/_latchkey                             with ~/.zfunc in $fpath
  latchkey completions fish > ~/.config/fish/completions/latchkey.fish")]
pub(super) struct Args {
    /// The shell
    shell: Supported,
}

/// The shells that completion is tried with.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Supported {
    Bash,
    Zsh,
    Fish,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let shell = match args.shell {
        Supported::Bash => Shell::Bash,
        Supported::Zsh => Shell::Zsh,
        Supported::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "latchkey", &mut script);
    print(script)
}
