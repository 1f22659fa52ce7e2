//! A running service, and an administrator at a shell beside it.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::{Place, Serving, assert_refused, stderr};

pub struct Shell {
    pub place: Place,
    pub serving: Serving,
    pub token: String,
}

impl Shell {
    pub fn start() -> Self {
        let place = Place::new();
        let serving = place.serve(&[]);
        let token = place.bootstrap();
        Self { place, serving, token }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.serving.address("api"))
    }

    /// The program, told where the service is and given the administrator's token.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.place.command(args);
        command.env("LATCHKEY_URL", self.url()).env("LATCHKEY_TOKEN", &self.token);
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// What a command prints that succeeds.
    #[track_caller]
    pub fn print(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The same, without what differs from run to run.
    #[track_caller]
    pub fn masked(&self, args: &[&str]) -> String {
        mask(&self.print(args).replace(&self.url(), "<url>"))
    }

    /// The same with `--json`, read.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.print(&[args, &["--json"]].concat())).unwrap()
    }

    /// Checks that a command is refused with one sentence that says `text`, and has changed nothing.
    #[track_caller]
    pub fn refused(&self, args: &[&str], code: i32, text: &str) {
        let before = self.state();
        assert_refused(&self.run(args), code, text);
        assert_eq!(before, self.state(), "{args:?} was refused and has changed something");
    }

    /// All that the administrator can see and change.
    pub fn state(&self) -> String {
        let mut state = String::new();
        for args in [&["audit", "list"][..], &["restrictions", "show"], &["user", "list"]] {
            state += &self.print(&[args, &["--json"]].concat());
        }
        for user in self.json(&["user", "list"])["items"].as_array().unwrap() {
            state += &self.print(&["token", "list", "--user", user["name"].as_str().unwrap()]);
        }
        state
    }

    /// Inserts so many tokens of the administrator's that have expired.
    pub fn insert_expired(&self, count: u32) {
        self.place.sql(&format!(
            "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {count}) \
             INSERT INTO tokens (id, user_id, hash, name, hint, schemes, scopes, allowed_cidrs, created_at, expires_at) \
             SELECT printf('019a0000-0000-7000-8000-%012x', n), (SELECT id FROM users), randomblob(32), 'old', 'lk_abcd', \
             'bearer', '', '', 0, 1 FROM n"
        ));
    }

    /// Makes a user with a token, whose identifier and secret it gives.
    pub fn user_with_token(&self, name: &str, args: &[&str]) -> (String, String) {
        self.print(&["user", "create", name]);
        let made = self.json(&[&["token", "create", "own", "--user", name], args].concat());
        (made["id"].as_str().unwrap().to_owned(), made["token"].as_str().unwrap().to_owned())
    }

    /// Runs a command on a terminal on which `typed` is typed; gives its exit code and what the terminal showed.
    pub fn on_terminal(&self, args: &[&str], typed: &str) -> (Option<i32>, String) {
        use std::io::Write;
        let line = [&[env!("CARGO_BIN_EXE_latchkey")], args].concat().join(" ");
        let mut script = Command::new("script");
        script
            .args(["--quiet", "--return", "--command", &line, "/dev/null"])
            .current_dir(self.place.path(""));
        script.env("LATCHKEY_URL", self.url()).env("LATCHKEY_TOKEN", &self.token);
        let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// The text with identifiers, secrets and times replaced; what stands in tables by something of the same width.
pub fn mask(text: &str) -> String {
    let word = |c: char| c.is_ascii_alphanumeric() || "-_:.".contains(c);
    let mut masked = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(word) {
        let (before, from) = rest.split_at(start);
        let one = &from[..from.find(|c| !word(c)).unwrap_or(from.len())];
        // A sentence may end with one.
        let (one, after) = from.split_at(one.trim_end_matches('.').len().max(1));
        masked += before;
        masked += &match one {
            _ if one.len() >= 20 && one.contains('T') && one.ends_with('Z') => "<time>".to_owned(),
            _ if is_masked(one) => one.replace(|c: char| c.is_ascii_alphanumeric(), "x"),
            _ => one.to_owned(),
        };
        rest = after;
    }
    masked + rest
}

fn is_masked(word: &str) -> bool {
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    let uuid = word.len() == 36 && word.bytes().filter(|b| *b == b'-').count() == 4;
    let time = digits >= 4 && (word.contains('-') || word.contains(':')) && !word.starts_with("127.");
    let count = digits >= 6 && digits == word.len();
    uuid || time || count || word.starts_with("lk_")
}
