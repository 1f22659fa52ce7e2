//! A child process with a log file, which ends with the value that stands for it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::wait::{PATIENCE, now};

/// A running program.
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts a command whose output is added to `log`.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Self {
        let out = File::options().create(true).append(true).open(log).expect("a log file");
        let err = out.try_clone().expect("a second handle of the log file");
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}; command: {command:?}"));
        Self { child, name: name.to_owned(), log: log.to_owned() }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name: `TERM`, `KILL`.
    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill").arg(format!("-{signal}")).arg(self.id().to_string()).status();
        assert!(status.is_ok_and(|status| status.success()), "{} cannot be sent SIG{signal}", self.name);
    }

    /// Stops it as SIGSTOP does, and comes back when it stands still: the signal is taken by one thread, and on a busy
    /// machine the others go on for a while, long enough to answer a request.
    pub fn pause(&self) {
        self.signal("STOP");
        let begun = now();
        while !self.stands_still() {
            assert!(begun.elapsed() < PATIENCE, "{} goes on after SIGSTOP", self.name);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Lets it go on after [`Process::pause`].
    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// Whether each of its threads is stopped (proc(5): state `T`, after the name in parentheses).
    fn stands_still(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.id())).expect("its threads");
        threads.filter_map(Result::ok).all(|thread| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
        })
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child's state")
    }

    /// Waits for its end.
    pub async fn wait(&mut self) -> ExitStatus {
        super::wait::until(&format!("{} has ended", self.name), async || self.ended()).await
    }

    /// Panics, with the end of the log, if it has ended.
    pub fn assert_running(&mut self) {
        if let Some(status) = self.ended() {
            panic!("{} has ended ({status}). Its log:\n{}", self.name, self.log_text());
        }
    }

    pub fn log_text(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a command to its end and gives its stdout; panics with its stderr if it fails.
pub fn output_of(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?} failed ({}):\n{out}{err}", output.status);
    out.into_owned()
}
