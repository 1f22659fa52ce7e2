//! `latchkey completions`: scripts that shells accept, and that know the commands.

use std::process::Command;

use crate::support::Place;

#[test]
fn there_is_a_script_for_each_shell_and_it_knows_the_commands() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        let output = place.run(&["completions", shell]);
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && output.stderr.is_empty());
        for word in ["latchkey", "restrictions", "delete-expired", "token-file", "expires-in"] {
            assert!(script.contains(word), "{word} is not in the script for {shell}");
        }
    }
    assert_eq!(place.run(&["completions", "tcsh"]).status.code(), Some(2));
}

#[test]
fn bash_completes_commands_with_it() {
    let place = Place::new();
    let script = String::from_utf8(place.run(&["completions", "bash"]).stdout).unwrap();
    let ask =
        "COMP_WORDS=(latchkey token re); COMP_CWORD=2; _latchkey latchkey re token; echo \"${COMPREPLY[@]}\"";
    let file = place.write("completions", &format!("{script}\n{ask}\n"));
    let output = Command::new("bash").arg(file).output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains("revoke"));
}
