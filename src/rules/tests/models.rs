//! How servers read a request's target, each as one small function of its own: written from their documentation and sources,
//! with nothing of the readings that they are held against. `None`: the server refuses the request.

/// What a server takes for the path of a target.
pub type Model = fn(&[u8]) -> Option<Vec<u8>>;

pub const ALL: [(&str, Model); 28] = [
    ("as sent", |target| Some(before(target, b"?").to_vec())),
    ("RFC 3986: unreserved decoded, dots removed", rfc_3986),
    ("WHATWG URL: Node's new URL()", |target| Some(whatwg(target))),
    ("Node: new URL(), then decodeURIComponent", |target| utf_8(percent(&whatwg(target)))),
    ("Node: decodeURIComponent, then new URL()", |target| Some(whatwg(&utf_8(percent(target))?))),
    ("decoded once, no dots: Flask, Express", |target| Some(percent(before(target, b"?")))),
    ("decoded once, dots resolved", |target| Some(dots(&percent(before(target, b"?"))))),
    ("Werkzeug: decoded once, slashes merged", |target| Some(merge(&percent(before(target, b"?"))))),
    ("nginx: decoded, merged, dots", nginx),
    ("nginx with merge_slashes off", |target| strict_dots(&percent(before(target, b"?#")))),
    ("Apache: %2f refused", apache),
    ("Go's ServeMux: decoded, path.Clean", |target| Some(dots(&merge(&percent(before(target, b"?")))))),
    ("Tomcat", |target| tomcat(target, b"")),
    ("Tomcat, encoded slashes passed through", |target| tomcat(target, b"/\\")),
    ("Jetty", jetty),
    ("Spring: parameters dropped after decoding", |target| {
        Some(dots(&merge(&parameters(&percent(before(target, b"?"))))))
    }),
    ("parameters dropped before decoding, no dots", |target| {
        Some(percent(&parameters(before(target, b"?"))))
    }),
    ("java.net.URI.normalize", |target| Some(dots(&merge(before(target, b"?#"))))),
    ("IIS: %u, decoded twice, backslashes", iis),
    ("decoded twice", |target| Some(dots(&percent(&percent(before(target, b"?")))))),
    ("decoded three times, merged", |target| {
        Some(dots(&merge(&percent(&percent(&percent(before(target, b"?")))))))
    }),
    ("decoded twice, cut at what this uncovers", |target| {
        Some(dots(before(&percent(&percent(before(target, b"?"))), b"?#")))
    }),
    ("backslashes turned, then decoded", |target| Some(percent(&dots(&slashes(before(target, b"?")))))),
    ("encoded slashes kept, dots, then decoded", |target| {
        Some(percent(&dots(&percent_but(before(target, b"?"), b"/\\"))))
    }),
    ("overlong UTF-8", |target| Some(dots(&overlong(&percent(before(target, b"?")))))),
    ("C strings: ends at NUL", |target| Some(dots(before(&percent(before(target, b"?")), b"\0")))),
    ("bytes that are no UTF-8 dropped", |target| {
        let decoded = percent(before(target, b"?"));
        Some(dots(
            decoded.utf8_chunks().flat_map(|chunk| chunk.valid().bytes()).collect::<Vec<_>>().as_slice(),
        ))
    }),
    ("cut at the first parameter, decoded", |target| Some(dots(&percent(before(target, b"?;"))))),
];

fn before<'a>(text: &'a [u8], marks: &[u8]) -> &'a [u8] {
    let end = text.iter().position(|byte| marks.contains(byte)).unwrap_or(text.len());
    &text[..end]
}

fn utf_8(text: Vec<u8>) -> Option<Vec<u8>> {
    String::from_utf8(text).ok().map(String::into_bytes)
}

fn percent(text: &[u8]) -> Vec<u8> {
    percent_but(text, b"")
}

fn percent_but(text: &[u8], kept: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let value = hex.filter(|two| !two.starts_with('+')).and_then(|two| u8::from_str_radix(two, 16).ok());
        match value {
            Some(value) if *first == b'%' && !kept.contains(&value) => {
                decoded.push(value);
                rest = &after[2..];
            }
            _ => {
                decoded.push(*first);
                rest = after;
            }
        }
    }
    decoded
}

fn merge(path: &[u8]) -> Vec<u8> {
    let mut merged: Vec<u8> = Vec::new();
    for byte in path {
        if *byte != b'/' || merged.last() != Some(&b'/') {
            merged.push(*byte);
        }
    }
    merged
}

fn slashes(path: &[u8]) -> Vec<u8> {
    path.iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }).collect()
}

fn parameters(path: &[u8]) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut in_parameter = false;
    for byte in path {
        in_parameter = *byte == b';' || (in_parameter && *byte != b'/');
        if !in_parameter {
            kept.push(*byte);
        }
    }
    kept
}

/// RFC 3986 §5.2.4, as it is written there.
fn dots(path: &[u8]) -> Vec<u8> {
    let (mut input, mut output) = (path.to_vec(), Vec::new());
    while !input.is_empty() {
        if input.starts_with(b"../") {
            input.drain(..3);
        } else if input.starts_with(b"./") || input.starts_with(b"/./") {
            input.drain(..2);
        } else if input == b"/." {
            input = b"/".to_vec();
        } else if input.starts_with(b"/../") || input == b"/.." {
            let rest = input.get(3..).filter(|rest| !rest.is_empty()).unwrap_or(b"/").to_vec();
            input = rest;
            let last = output.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
            output.truncate(last);
        } else if input == b"." || input == b".." {
            input.clear();
        } else {
            let end = input.iter().skip(1).position(|byte| *byte == b'/').map_or(input.len(), |end| end + 1);
            output.extend(input.drain(..end));
        }
    }
    output
}

/// The same, for servers that refuse what leads above the root.
fn strict_dots(path: &[u8]) -> Option<Vec<u8>> {
    let mut depth = 0_i32;
    for segment in path.get(1..)?.split(|byte| *byte == b'/') {
        depth += match segment {
            b".." => -1,
            b"." => 0,
            _ => 1,
        };
        if depth < 0 {
            return None;
        }
    }
    Some(dots(path))
}

fn rfc_3986(target: &[u8]) -> Option<Vec<u8>> {
    let path = before(target, b"?#");
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let reserved: Vec<u8> = (0..=255).filter(|byte| !unreserved(*byte)).collect();
    Some(dots(&percent_but(path, &reserved)))
}

/// The path of <https://url.spec.whatwg.org/#url-parsing> for a special scheme with a base; nothing else is decoded.
fn whatwg(target: &[u8]) -> Vec<u8> {
    let end = target.iter().rposition(|byte| *byte > b' ').map_or(0, |last| last + 1);
    let without: Vec<u8> = target[..end].iter().copied().filter(|byte| !b"\t\n\r".contains(byte)).collect();
    let path = slashes(before(&without, b"?#"));
    let leading = path.iter().take_while(|byte| **byte == b'/').count();
    let path = match leading {
        0 | 1 => path,
        _ => {
            let host = &path[leading..];
            let end = host.iter().position(|byte| *byte == b'/').unwrap_or(host.len());
            [b"/", host[end..].strip_prefix(b"/").unwrap_or_default()].concat()
        }
    };
    let plain = |segment: &[u8]| match String::from_utf8_lossy(segment).to_lowercase().replace("%2e", ".") {
        dots if dots == "." || dots == ".." => dots.into_bytes(),
        _ => segment.to_vec(),
    };
    dots(&path.split(|byte| *byte == b'/').map(plain).collect::<Vec<_>>().join(&b'/'))
}

fn nginx(target: &[u8]) -> Option<Vec<u8>> {
    let decoded = percent(before(target, b"?#"));
    if decoded.contains(&0) { None } else { strict_dots(&merge(&decoded)) }
}

fn apache(target: &[u8]) -> Option<Vec<u8>> {
    let path = before(target, b"?");
    let refused = path.to_ascii_lowercase().windows(3).any(|three| three == b"%2f" || three == b"%00");
    if refused { None } else { strict_dots(&merge(&percent(path))) }
}

/// `CoyoteAdapter`: parameters are taken out, then it is decoded and normalised.
fn tomcat(target: &[u8], kept: &[u8]) -> Option<Vec<u8>> {
    let decoded = percent_but(&parameters(before(target, b"?")), kept);
    if decoded.contains(&0) { None } else { strict_dots(&merge(&decoded)) }
}

/// `URIUtil.decodePath` and `canonicalPath` of Jetty 9.
fn jetty(target: &[u8]) -> Option<Vec<u8>> {
    strict_dots(&utf_16(&percent(&parameters(before(target, b"?")))))
}

fn iis(target: &[u8]) -> Option<Vec<u8>> {
    let once = percent(&utf_16(before(target, b"?")));
    Some(dots(&merge(&slashes(&percent(&utf_16(&once))))))
}

/// Decodes `%uXXXX`, full-width forms to what they look like.
fn utf_16(text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut index = 0;
    while index < text.len() {
        let hex =
            text.get(index + 2..index + 6).filter(|_| text[index..].to_ascii_lowercase().starts_with(b"%u"));
        let value = hex.and_then(|hex| std::str::from_utf8(hex).ok()).filter(|hex| !hex.starts_with('+'));
        match value.and_then(|hex| u32::from_str_radix(hex, 16).ok()) {
            Some(value @ 0xff01..=0xff5e) => decoded.push(u8::try_from(value - 0xfee0).unwrap()),
            Some(value) => decoded.extend(char::from_u32(value).unwrap_or('?').to_string().bytes()),
            None => {
                decoded.push(text[index]);
                index += 1;
                continue;
            }
        }
        index += 6;
    }
    decoded
}

/// What a decoder makes of UTF-8 that only puts the bits together.
fn overlong(text: &[u8]) -> Vec<u8> {
    let mut read = Vec::new();
    let mut index = 0;
    while index < text.len() {
        let length = match text[index] {
            0xc0 | 0xc1 => 2,
            0xe0 => 3,
            0xf0 => 4,
            _ => 1,
        };
        let tail = text.get(index + 1..index + length).unwrap_or_default();
        let bits =
            tail.iter().fold(u32::from(text[index] & 1), |bits, byte| bits << 6 | u32::from(byte & 0x3f));
        if length > 1 && tail.len() + 1 == length && tail.iter().all(|byte| byte & 0xc0 == 0x80) && bits < 128
        {
            read.push(u8::try_from(bits).unwrap());
            index += length;
        } else {
            read.push(text[index]);
            index += 1;
        }
    }
    read
}
