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
  latchkey completions fish > ~/.config/fish/completions/latchkey.fish
  latchkey completions powershell | Out-String | Invoke-Expression          for this shell")]
pub(super) struct Args {
    /// The shell
    shell: Shell,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "latchkey", &mut script);
    print(script)
}
