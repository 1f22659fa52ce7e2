//! How servers read a path. They disagree about escapes, and escapes of escapes, `//`, `;…`, `\`, a decoded `?` or `#` and dot
//! segments, and about the order in which these count. Every step can also hide what a server sees that does not take it, so
//! none of the readings stands for the others: all orders of all steps are followed, until nothing new comes of them.

use super::steps;

/// How long a path may be, in bytes; a longer one is ambiguous.
pub const MAX_PATH: usize = 8 << 10;
/// How many readings of one request are looked at.
const MAX_READINGS: usize = 48;
/// How many bytes they may have together: bounds what a request costs, above all with regular expressions.
const MAX_BYTES: usize = 2 * MAX_PATH;

/// How much servers may disagree about a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// Every server reads it as it stands.
    Plain,
    /// Some servers decode it, or cut a part off, and none finds another place by it.
    Odd,
    /// It is not absolute, too long, or has a part that leads some servers to another place.
    Ambiguous,
}

/// Which bytes stand for themselves in a path, whatever is before and after them.
const IS_PLAIN: [bool; 256] = {
    let mut is_plain = [false; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        #[expect(clippy::indexing_slicing, reason = "at compile time")]
        {
            is_plain[byte as usize] = !matches!(byte, b'/' | b'?' | b'%' | b'\\' | b';' | b'#');
        }
        byte += 1;
    }
    is_plain
};

/// The path that a request's target begins with, without the query, and how it is spelt: one look at each byte of most.
pub fn look(target: &[u8]) -> (&[u8], Spelling) {
    let (mut rest, mut is_plain) = (target, target.first() == Some(&b'/'));
    let path = loop {
        let stands_alone = |byte: &u8| *IS_PLAIN.get(usize::from(*byte)).unwrap_or(&false);
        let end = rest.iter().position(|byte| !stands_alone(byte)).unwrap_or(rest.len());
        rest = rest.get(end..).unwrap_or_default();
        match rest.split_first() {
            None | Some((b'?', _)) => break target.get(..target.len() - rest.len()).unwrap_or(target),
            Some((byte, after)) => {
                is_plain &= *byte == b'/' && !is_odd_after_slash(after);
                rest = after;
            }
        }
    };
    let is_plain = is_plain && path.len() <= MAX_PATH;
    (path, if is_plain { Spelling::Plain } else { spelling(path) })
}

/// Whether a segment that begins here is empty and not the last, or a dot segment.
fn is_odd_after_slash(rest: &[u8]) -> bool {
    matches!(
        rest,
        [b'/', ..] | [b'.'] | [b'.', b'/' | b'?', ..] | [b'.', b'.'] | [b'.', b'.', b'/' | b'?', ..]
    )
}

/// How a path is spelt that has some odd byte.
#[cold]
fn spelling(path: &[u8]) -> Spelling {
    let disturbs = |byte: &u8| byte.is_ascii_control() || b"\\;".contains(byte);
    let is_odd_segment = |segment: &[u8]| matches!(segment, b"." | b"..");
    let absolute = path.first() == Some(&b'/') && path.len() <= MAX_PATH;
    if !absolute
        || path.iter().any(disturbs)
        || path.windows(2).any(|two| two == b"//")
        || path.split(|byte| *byte == b'/').any(is_odd_segment)
        || !steps::escapes(path).all(|escaped| escaped.is_some_and(stands_for_itself))
    {
        return Spelling::Ambiguous;
    }
    let decoded = steps::decode(path);
    if std::str::from_utf8(decoded.as_deref().unwrap_or(path)).is_err() {
        return Spelling::Ambiguous;
    }
    let all_read_alike = decoded.is_none() && !path.contains(&b'#') && !path.ends_with(b" ");
    if all_read_alike { Spelling::Plain } else { Spelling::Odd }
}

/// Whether a character that was percent-encoded does no more than stand in a path: it is no delimiter of segments or
/// parameters, no dot, no control character, and does not begin another escape.
fn stands_for_itself(byte: u8) -> bool {
    !byte.is_ascii_control() && !b"/\\;.%".contains(&byte)
}

/// Every reading of these paths, themselves among them. `None`: there are too many, or they are too long.
pub fn of<'a>(paths: impl Iterator<Item = &'a [u8]>) -> Option<Vec<Vec<u8>>> {
    let mut readings: Vec<Vec<u8>> = Vec::new();
    let mut found: Vec<Vec<u8>> = paths.map(<[u8]>::to_vec).collect();
    let (mut bytes, mut read) = (0, 0);
    loop {
        for reading in found {
            if readings.contains(&reading) {
                continue;
            }
            bytes += reading.len();
            if readings.len() == MAX_READINGS || bytes > MAX_BYTES {
                return None;
            }
            readings.push(reading);
        }
        let Some(reading) = readings.get(read) else { return Some(readings) };
        found = steps::from(reading).collect();
        read += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelt(path: &str) -> Spelling {
        look(path.as_bytes()).1
    }

    fn read(path: &str) -> Vec<String> {
        let readings = of([path.as_bytes()].into_iter()).unwrap_or_else(|| panic!("{path}"));
        readings.iter().map(|reading| reading.escape_ascii().to_string()).collect()
    }

    #[test]
    fn a_path_is_plain_odd_or_ambiguous() {
        for plain in
            ["/", "/a", "/a/", "/a/b.css", "/.hidden", "/..x", "/a/...", "/a.", "/a..", "/a,b:c@d!e*", "/é"]
        {
            assert_eq!(spelt(plain), Spelling::Plain, "{plain}");
        }
        for odd in ["/a%20b", "/%61", "/a%2Bb", "/a%c3%A9", "/a%40b", "/a%3fb", "/a#b", "/.x%20", "/é%c3%a9"]
        {
            assert_eq!(spelt(odd), Spelling::Odd, "{odd}");
        }
        for ambiguous in [
            "",
            "*",
            "a",
            "a/",
            "//",
            "//a",
            "/a//",
            "/a//b",
            "/.",
            "/..",
            "/./",
            "/a/.",
            "/a/..",
            "/a/./b",
            "/a/../b",
            "/a\\b",
            "/a;b",
            "/;",
            "/a%2fb",
            "/a%5Cb",
            "/a%2e",
            "/a%3bb",
            "/a%25b",
            "/a%00",
            "/a%1F",
            "/a%7f",
            "/a%",
            "/a%2",
            "/a%zz",
            "/a%+1",
            "/%20%2F",
            "/a\tb",
            "/a\x7f",
            "/%u0041",
            "/%c0%ae",
            "/a%ff",
            "/a%c3",
            "/%e0%80%ae",
            "/%ed%a0%80",
        ] {
            assert_eq!(spelt(ambiguous), Spelling::Ambiguous, "{ambiguous}");
        }
        assert_eq!(look(b"/a\xc0\xae").1, Spelling::Ambiguous);
        assert_eq!(look(b"/a\xc3%a9").1, Spelling::Odd);
        for (length, spelling) in [(MAX_PATH, Spelling::Plain), (MAX_PATH + 1, Spelling::Ambiguous)] {
            let path = format!("/{}?x", "a".repeat(length - 1));
            assert_eq!(spelt(&path), spelling, "{length}");
        }
    }

    #[test]
    fn the_query_is_no_part_of_the_path() {
        for (target, path, spelling) in [
            ("/a?//", "/a", Spelling::Plain),
            ("/a?b?c", "/a", Spelling::Plain),
            ("?a", "", Spelling::Ambiguous),
            ("/a//?b", "/a//", Spelling::Ambiguous),
        ] {
            assert_eq!(look(target.as_bytes()), (path.as_bytes(), spelling), "{target}");
        }
    }

    #[test]
    fn a_path_is_read_in_every_order_of_the_steps() {
        for (path, readings) in [
            ("/a/b", &["/a/b"][..]),
            ("/a%20b", &["/a%20b", "/a b"]),
            ("/a//../b", &["/a//../b", "/a/../b", "/a/b", "/b"]),
            ("/a%252fb", &["/a%252fb", "/a%2fb", "/a/b"]),
            ("/a/%2e%2E/b", &["/a/%2e%2E/b", "/a/../b", "/b"]),
            ("/a;%3f/b", &["/a;%3f/b", "/a;?/b", "/a", "/a/b", "/a;"]),
            ("//a/b", &["//a/b", "/a/b", "/b"]),
            ("/..%5cb", &["/..%5cb", "/..\\\\b", "/../b", "/b"]),
            ("/a/..;x/b", &["/a/..;x/b", "/a/..", "/a/../b", "/", "/b"]),
            (
                "/%c0%ae%u002e/a",
                &[
                    "/%c0%ae%u002e/a",
                    "/%c0%ae./a",
                    "/\\xc0\\xae%u002e/a",
                    "/\\xc0\\xae./a",
                    "/.%u002e/a",
                    "/%u002e/a",
                    "/../a",
                    "/./a",
                    "/a",
                ],
            ),
            ("http://h/a", &["http://h/a", "http:/h/a", "/a", "/http://h/a", "/http:/h/a"]),
            ("", &["", "/"]),
        ] {
            let (mut found, mut expected) = (read(path), readings.to_vec());
            found.sort_unstable();
            expected.sort_unstable();
            assert_eq!(found, expected, "{path}");
        }
    }

    #[test]
    fn what_has_too_many_readings_has_none() {
        let many = "/a%252f..%255c;b//c\\..%3fd%2523e;f/%2e%2e";
        assert_eq!(of([many.as_bytes()].into_iter()), None);
        let long = ["/%20", "a".repeat(MAX_PATH - 4).as_str()].concat();
        assert_eq!(of([long.as_bytes()].into_iter()).map(|all| all.len()), Some(2));
        let longer = ["/%2520", "a".repeat(MAX_PATH - 6).as_str()].concat();
        assert_eq!(of([longer.as_bytes()].into_iter()), None);
    }
}
