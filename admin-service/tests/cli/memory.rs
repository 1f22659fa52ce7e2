//! The memory of a running service, which holds tokens: neither core files nor other processes of its user get at it.

use std::fs::File;

use crate::support::{Place, Serving, wait_for};

/// What the operating system may write of the process into a core file.
#[cfg(target_os = "linux")]
#[test]
fn no_core_file_is_written_unless_it_is_asked_for() {
    let place = Place::new();
    let limit = |serving: &Serving| {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", serving.child.id())).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap().to_owned();
        line.split_whitespace().skip(4).take(2).map(str::to_owned).collect::<Vec<_>>()
    };
    let serving = place.serve(&[]);
    assert_eq!(limit(&serving), ["0", "0"]);
    let other = Place::new();
    assert_ne!(limit(&other.serve(&["--allow-core-dumps"]))[1], "0", "a hard limit of 0 in the test itself");
}

/// Of a process that is not dumpable everything below /proc belongs to root.
#[cfg(target_os = "linux")]
#[test]
fn other_processes_of_the_same_user_cannot_read_the_memory() {
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::process::CommandExt;

    let owner_of = |flags: &[&str]| {
        let place = Place::new();
        let myself = std::fs::metadata("/proc/self").unwrap().uid();
        let user = if myself == 0 { 65_534 } else { myself };
        let log = place.path("log");
        let mut command = place.command(&["serve", "--log-format", "json", "--listen", "127.0.0.1:0"]);
        command.args(["--edge-listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]).args(flags);
        command.stderr(File::create(&log).unwrap());
        if myself == 0 {
            std::os::unix::fs::chown(place.path(""), Some(user), Some(user)).unwrap();
            command.uid(user).gid(user);
        }
        let serving = Serving { child: command.spawn().unwrap(), log };
        wait_for("the service to serve", || {
            serving.lines().iter().any(|line| line["message"] == "latchkey serves")
        });
        let owner = std::fs::metadata(format!("/proc/{}/mem", serving.child.id())).unwrap().uid();
        (owner, user)
    };
    assert_eq!(owner_of(&[]).0, 0, "the memory belongs to the user");
    let (owner, user) = owner_of(&["--allow-core-dumps"]);
    assert_eq!(owner, user);
}
