//! What servers do to a path, one step each. A step is `None` where it changes nothing.

/// One step.
type Step = fn(&[u8]) -> Option<Vec<u8>>;

/// What a path has that a step is about.
const ESCAPE: u8 = 1;
const MARK: u8 = 2;
const BACKSLASH: u8 = 4;
const BLANK: u8 = 8;
const HIGH: u8 = 16;
const DOT: u8 = 32;
const SLASH: u8 = 64;
const ANYTHING: u8 = 255;

/// Every step that some server takes, and what a path must have one of for it.
const ALL: [(u8, Step); 18] = [
    (ESCAPE, decode),
    (ESCAPE, decode_but_separators),
    (ESCAPE, decode_utf_16),
    (HIGH, read_overlong),
    (HIGH, drop_invalid),
    (MARK, |path| cut(path, b'?')),
    (MARK, |path| cut(path, b'#')),
    (MARK, |path| cut(path, b';')),
    (BLANK, |path| cut(path, 0)),
    (MARK, drop_parameters),
    (BACKSLASH, turn_backslashes),
    (SLASH, collapse_slashes),
    (DOT, |path| resolve_dots(path, |segment| segment)),
    (DOT | ESCAPE, |path| resolve_dots(path, plain_dots)),
    (SLASH | BACKSLASH, drop_authority),
    (BLANK, drop_blanks),
    (ANYTHING, drop_origin),
    (ANYTHING, begin_with_slash),
];

/// What one step makes of a path, for each that makes something else of it.
pub fn from(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let found = features(path);
    ALL.iter().filter(move |(needed, _)| needed & found != 0).filter_map(|(_, step)| step(path))
}

/// What there is in a path, and that it is one.
fn features(path: &[u8]) -> u8 {
    let (mut found, mut after_slash) = (128, false);
    for byte in path {
        found |= match byte {
            b'%' => ESCAPE,
            b'?' | b'#' | b';' => MARK,
            b'\\' => BACKSLASH,
            0..=b' ' => BLANK,
            128.. => HIGH,
            b'.' if after_slash => DOT,
            b'/' if after_slash => SLASH,
            _ => 0,
        };
        after_slash = *byte == b'/';
    }
    found
}

/// The byte that the escape at `index` encodes (RFC 3986 §2.1).
fn unescaped(path: &[u8], index: usize) -> Option<u8> {
    u8::try_from(hexadecimal(path.get(index + 1..index + 3)?)?).ok()
}

fn hexadecimal(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number, digit| Some(number * 16 + char::from(*digit).to_digit(16)?))
}

/// What each `%` of a path encodes, if it does.
pub fn escapes(path: &[u8]) -> impl Iterator<Item = Option<u8>> {
    let places = path.iter().enumerate().filter(|(_, byte)| **byte == b'%');
    places.map(|(index, _)| unescaped(path, index))
}

/// Replaces parts of a path: `read` adds what the beginning of its input stands for, and says how many bytes that took; with
/// 0 the first byte stays.
fn replace(path: &[u8], read: impl Fn(&[u8], &mut Vec<u8>) -> usize) -> Option<Vec<u8>> {
    let (mut replaced, mut rest, mut changed) = (Vec::with_capacity(path.len()), path, false);
    while let Some((first, after)) = rest.split_first() {
        let length = read(rest, &mut replaced);
        if length == 0 {
            replaced.push(*first);
            rest = after;
        } else {
            rest = rest.get(length..).unwrap_or_default();
            changed = true;
        }
    }
    changed.then_some(replaced)
}

/// Decodes every escape; a `%` that begins none stays.
pub fn decode(path: &[u8]) -> Option<Vec<u8>> {
    decode_if(path, |_| true)
}

/// Decodes as servers do for which an encoded separator separates nothing.
fn decode_but_separators(path: &[u8]) -> Option<Vec<u8>> {
    let is_separator = |byte: u8| b"/\\".contains(&byte);
    // Without a separator it is what `decode` does.
    if escapes(path).flatten().any(is_separator) {
        return decode_if(path, |byte| !is_separator(byte));
    }
    None
}

fn decode_if(path: &[u8], wanted: impl Fn(u8) -> bool) -> Option<Vec<u8>> {
    if !path.contains(&b'%') {
        return None;
    }
    replace(path, |rest, decoded| match unescaped(rest, 0) {
        Some(byte) if rest.first() == Some(&b'%') && wanted(byte) => {
            decoded.push(byte);
            3
        }
        _ => 0,
    })
}

/// Decodes `%uXXXX` (IIS, Jetty); full-width forms become the ASCII characters that IIS fits them to.
fn decode_utf_16(path: &[u8]) -> Option<Vec<u8>> {
    let begins = |text: &[u8]| matches!(text, [b'%', b'u' | b'U', ..]);
    if !path.windows(2).any(begins) {
        return None;
    }
    replace(path, |rest, decoded| {
        let digits = rest.get(2..6).filter(|_| begins(rest));
        let Some(number) = digits.and_then(hexadecimal) else { return 0 };
        let number = if (0xff01..=0xff5e).contains(&number) { number - 0xff01 + 0x21 } else { number };
        let character = char::from_u32(number).unwrap_or(char::REPLACEMENT_CHARACTER);
        decoded.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        6
    })
}

/// Reads overlong UTF-8 (RFC 3629 §3 forbids it) as the ASCII character that it is an encoding of.
fn read_overlong(path: &[u8]) -> Option<Vec<u8>> {
    if path.is_ascii() {
        return None;
    }
    replace(path, |rest, read| {
        let (high, low, length) = match rest {
            [high @ (0xc0 | 0xc1), low @ 0x80..=0xbf, ..] => (high, low, 2),
            [0xe0, high @ (0x80 | 0x81), low @ 0x80..=0xbf, ..] => (high, low, 3),
            [0xf0, 0x80, high @ (0x80 | 0x81), low @ 0x80..=0xbf, ..] => (high, low, 4),
            _ => return 0,
        };
        read.push((high & 1) << 6 | low & 0x3f);
        length
    })
}

/// Leaves out what is no UTF-8.
fn drop_invalid(path: &[u8]) -> Option<Vec<u8>> {
    std::str::from_utf8(path)
        .is_err()
        .then(|| path.utf8_chunks().flat_map(|chunk| chunk.valid().bytes()).collect())
}

/// The path before the first `mark`.
fn cut(path: &[u8], mark: u8) -> Option<Vec<u8>> {
    let end = path.iter().position(|byte| *byte == mark)?;
    path.get(..end).map(<[u8]>::to_vec)
}

/// Leaves out the parameters of each segment (RFC 3986 §3.3): from `;` to the next slash.
fn drop_parameters(path: &[u8]) -> Option<Vec<u8>> {
    path.contains(&b';').then(|| {
        let names =
            path.split(|byte| *byte == b'/').map(|segment| segment.split(|byte| *byte == b';').next());
        names.map(Option::unwrap_or_default).collect::<Vec<_>>().join(&b'/')
    })
}

/// Takes each `\` for `/`.
fn turn_backslashes(path: &[u8]) -> Option<Vec<u8>> {
    let turn = |byte: &u8| if *byte == b'\\' { b'/' } else { *byte };
    path.contains(&b'\\').then(|| path.iter().map(turn).collect())
}

/// Takes several slashes for one.
fn collapse_slashes(path: &[u8]) -> Option<Vec<u8>> {
    let mut collapsed = path.to_vec();
    collapsed.dedup_by(|byte, before| *byte == b'/' && *before == b'/');
    (collapsed.len() < path.len()).then_some(collapsed)
}

/// A segment that is dots in some encoding, as dots (WHATWG URL, "single-dot" and "double-dot").
fn plain_dots(segment: &[u8]) -> &[u8] {
    let is = |dots: &[u8]| segment.eq_ignore_ascii_case(dots);
    if is(b"%2e") {
        return b".";
    }
    if is(b".%2e") || is(b"%2e.") || is(b"%2e%2e") { b".." } else { segment }
}

/// Resolves dot segments (RFC 3986 §5.2.4); an empty segment is one.
fn resolve_dots(path: &[u8], read: fn(&[u8]) -> &[u8]) -> Option<Vec<u8>> {
    let mut resolved: Vec<&[u8]> = Vec::new();
    let (mut changed, mut ends_in_dots) = (false, false);
    for segment in path.strip_prefix(b"/")?.split(|byte| *byte == b'/') {
        let dots = read(segment);
        ends_in_dots = matches!(dots, b"." | b"..");
        changed |= ends_in_dots;
        match dots {
            b"." => {}
            b".." => drop(resolved.pop()),
            _ => resolved.push(segment),
        }
    }
    if ends_in_dots {
        resolved.push(b"");
    }
    changed.then(|| [b"/", resolved.join(&b'/').as_slice()].concat())
}

/// Takes what follows two slashes for a host (RFC 3986 §4.2), or what follows more (WHATWG URL).
fn drop_authority(path: &[u8]) -> Option<Vec<u8>> {
    let is_slash = |byte: &u8| b"/\\".contains(byte);
    let slashes = path.iter().take_while(|byte| is_slash(byte)).count();
    let rest = path.get(slashes..).filter(|_| slashes > 1)?;
    Some(from_first(rest, |byte| is_slash(byte) || b"?#".contains(byte)))
}

/// Leaves out the scheme and host of an absolute URL.
fn drop_origin(path: &[u8]) -> Option<Vec<u8>> {
    if path.starts_with(b"/") {
        return None;
    }
    let scheme = path.windows(3).position(|text| text == b"://")?;
    Some(from_first(path.get(scheme + 3..)?, |byte| b"/\\?#".contains(byte)))
}

/// What follows a host: the path, or `/` where there is none.
fn from_first(rest: &[u8], ends_host: impl Fn(&u8) -> bool) -> Vec<u8> {
    let path = rest.iter().position(ends_host).and_then(|end| rest.get(end..)).unwrap_or_default();
    if path.first().is_some_and(|byte| b"/\\".contains(byte)) { path.to_vec() } else { [b"/", path].concat() }
}

/// Leaves out tabs and line ends, and blanks at the end (WHATWG URL).
fn drop_blanks(path: &[u8]) -> Option<Vec<u8>> {
    let is_blank = |byte: &u8| *byte <= b' ';
    let end = path.iter().rposition(|byte| !is_blank(byte)).map_or(0, |last| last + 1);
    let kept: Vec<u8> = path.get(..end)?.iter().copied().filter(|byte| !b"\t\n\r".contains(byte)).collect();
    (kept.len() < path.len()).then_some(kept)
}

/// Gives a path the slash that it does not begin with.
fn begin_with_slash(path: &[u8]) -> Option<Vec<u8>> {
    (path.first() != Some(&b'/')).then(|| [b"/", path].concat())
}
