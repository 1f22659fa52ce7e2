//! The spellings of a path. Servers disagree about what `/a/%2e%2e/b` or `/a//b` means, so rules look at a path as it was
//! sent and as the most helpful server would read it.

/// How much servers may disagree about a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// Every server reads it as it stands.
    Plain,
    /// It has percent-encoded characters that stand for nothing but themselves: some servers compare it decoded.
    Escaped,
    /// It is not absolute, or has a part that one server normalises and another does not.
    Ambiguous,
}

impl Spelling {
    /// How a path without its query is spelt.
    #[must_use]
    pub fn of(path: &[u8]) -> Self {
        let segments = || path.split(|byte| *byte == b'/');
        let last = segments().count().saturating_sub(1);
        // The first segment is empty in an absolute path, and the last one in one that ends with a slash.
        let odd = |(index, segment): (usize, &[u8])| match segment {
            b"" => index != 0 && index != last,
            b"." | b".." => true,
            _ => false,
        };
        let relative = path.first() != Some(&b'/');
        if relative || path.iter().any(|byte| b"\\;".contains(byte)) || segments().enumerate().any(odd) {
            return Self::Ambiguous;
        }
        let escapes = || path.iter().enumerate().filter(|(_, byte)| **byte == b'%').map(|(index, _)| index);
        match escapes().all(|index| unescaped(path, index).is_some_and(stands_for_itself)) {
            false => Self::Ambiguous,
            true if escapes().next().is_some() => Self::Escaped,
            true => Self::Plain,
        }
    }
}

/// Whether a character that was percent-encoded does no more than stand in a path: it is no delimiter of segments or
/// parameters, no dot, no control character, and does not begin another escape.
fn stands_for_itself(byte: u8) -> bool {
    !byte.is_ascii_control() && !b"/\\;.%".contains(&byte)
}

/// The byte that the escape at `index` encodes (RFC 3986 §2.1).
fn unescaped(path: &[u8], index: usize) -> Option<u8> {
    let digit = |offset: usize| char::from(*path.get(index + offset)?).to_digit(16);
    u8::try_from(digit(1)? * 16 + digit(2)?).ok()
}

/// A path as a server reads it that does everything which some server does: decodes escapes, also of escapes, cuts a
/// query off that this uncovers, takes `\` for `/`, drops parameters (`;…`), and resolves empty and dot segments.
#[must_use]
pub fn resolved(path: &[u8]) -> Vec<u8> {
    let decoded = decode(&decode(&decode(path)));
    let end = decoded.iter().position(|byte| b"?#".contains(byte)).unwrap_or(decoded.len());
    let mut segments: Vec<&[u8]> = Vec::new();
    let mut ends_in_slash = false;
    for segment in decoded.get(..end).unwrap_or_default().split(|byte| b"/\\".contains(byte)) {
        let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
        ends_in_slash = matches!(name, b"" | b"." | b"..");
        match name {
            b"" | b"." => {}
            b".." => drop(segments.pop()),
            _ => segments.push(name),
        }
    }
    let mut path = Vec::with_capacity(end + 1);
    for segment in &segments {
        path.push(b'/');
        path.extend_from_slice(segment);
    }
    if ends_in_slash {
        path.push(b'/');
    }
    path
}

/// Replaces every escape by what it encodes; a `%` that begins none stays.
fn decode(path: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut index = 0;
    while let Some(byte) = path.get(index) {
        let escaped = if *byte == b'%' { unescaped(path, index) } else { None };
        decoded.push(escaped.unwrap_or(*byte));
        index += if escaped.is_some() { 3 } else { 1 };
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_plain_escaped_or_ambiguous() {
        for plain in
            ["/", "/a", "/a/", "/a/b.css", "/.hidden", "/..x", "/a/...", "/a.", "/a..", "/a,b:c@d!e*"]
        {
            assert_eq!(Spelling::of(plain.as_bytes()), Spelling::Plain, "{plain}");
        }
        for escaped in ["/a%20b", "/%61", "/a%2Bb", "/a%c3%A9", "/a%40b", "/a%3fb"] {
            assert_eq!(Spelling::of(escaped.as_bytes()), Spelling::Escaped, "{escaped}");
        }
        for ambiguous in [
            "", "*", "a", "a/", "//", "//a", "/a//", "/a//b", "/.", "/..", "/./", "/a/.", "/a/..", "/a/./b",
            "/a/../b", "/a\\b", "/a;b", "/;", "/a%2fb", "/a%5Cb", "/a%2e", "/a%3bb", "/a%25b", "/a%00",
            "/a%1F", "/a%7f", "/a%", "/a%2", "/a%zz", "/a%+1", "/%20%2F",
        ] {
            assert_eq!(Spelling::of(ambiguous.as_bytes()), Spelling::Ambiguous, "{ambiguous}");
        }
    }

    #[test]
    fn a_path_is_resolved_as_the_most_helpful_server_does() {
        for (path, expected) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            ("//a///b", "/a/b"),
            ("/a/./b/.", "/a/b/"),
            ("/a/../b", "/b"),
            ("/../../a", "/a"),
            ("/a/b/..", "/a/"),
            ("/%61/%2e%2E/b%20c", "/b c"),
            ("/a%2f%2E%2e%5cb", "/b"),
            ("/a/%252e%252e/b", "/b"),
            ("/a/%25252e./b", "/b"),
            ("/a\\..\\b", "/b"),
            ("/a/..;x=1/b;y/c", "/b/c"),
            ("/a%3fb/../c", "/a"),
            ("/a%23b", "/a"),
            ("/100%", "/100%"),
            ("/%zz%4", "/%zz%4"),
            ("a", "/a"),
            ("", "/"),
        ] {
            let found = resolved(path.as_bytes());
            assert_eq!(String::from_utf8_lossy(&found), expected, "{path}");
        }
    }
}
