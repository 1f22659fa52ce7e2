//! Header maps in proxy-wasm's encoding: the number of pairs, the lengths of each name and value, then each with a NUL after it; numbers
//! are 32 bits, little-endian.

/// A header map in which name and value pairs are read in place, with no copy.
#[derive(Clone, Copy, Debug)]
pub struct Pairs<'a> {
    sizes: &'a [u8],
    texts: &'a [u8],
}

impl<'a> Pairs<'a> {
    /// The pairs of a map. `None`: it is cut short.
    #[must_use]
    pub fn of(map: &'a [u8]) -> Option<Self> {
        if map.is_empty() {
            return Some(Self { sizes: &[], texts: &[] });
        }
        let (count, rest) = map.split_first_chunk()?;
        let count = usize::try_from(u32::from_le_bytes(*count)).ok()?;
        let (sizes, texts) = rest.split_at_checked(count.checked_mul(8)?)?;
        let (sizes_of_texts, _) = sizes.as_chunks();
        let length = sizes_of_texts.iter().try_fold(0_usize, |sum, size| {
            sum.checked_add(usize::try_from(u32::from_le_bytes(*size)).ok()?)?.checked_add(1)
        })?;
        (length <= texts.len()).then_some(Self { sizes, texts })
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let (size, sizes) = self.sizes.split_first_chunk()?;
        let (text, after) = self.texts.split_at_checked(usize::try_from(u32::from_le_bytes(*size)).ok()?)?;
        (self.sizes, self.texts) = (sizes, after.get(1..)?);
        Some(text)
    }
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        Some((self.text()?, self.text()?))
    }
}

/// Writes a header map as proxy-wasm hosts read it. What [`Pairs`] reads.
#[must_use]
pub fn serialise_pairs(pairs: &[(&str, &str)]) -> Vec<u8> {
    // Nothing here is near 4 GiB; a length that were would be cut, and the host would refuse the map.
    let size = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
    let mut map = size(pairs.len()).to_vec();
    for (name, value) in pairs {
        map.extend(size(name.len()));
        map.extend(size(value.len()));
    }
    for text in pairs.iter().flat_map(|(name, value)| [name, value]) {
        map.extend(text.as_bytes());
        map.push(0);
    }
    map
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse_pairs(map: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
        Pairs::of(map).map(Iterator::collect)
    }

    fn bytes<'a>(pairs: &[(&'a str, &'a str)]) -> Vec<(&'a [u8], &'a [u8])> {
        pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect()
    }

    #[test]
    fn a_map_that_is_cut_short_is_noticed() {
        let map = serialise_pairs(&[("a", "b"), ("cd", "")]);
        assert_eq!(parse_pairs(&map), Some(bytes(&[("a", "b"), ("cd", "")])));
        assert_eq!(parse_pairs(&[]), Some(Vec::new()));
        for length in 1..map.len() {
            assert_eq!(parse_pairs(&map[..length]), None, "{length}");
        }
        assert_eq!(parse_pairs(&[255; 12]), None);
    }

    proptest! {
        #[test]
        fn a_map_survives_its_bytes(pairs in prop::collection::vec(("[a-z:-]{0,9}", "\\PC{0,9}"), 0..9)) {
            let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let map = serialise_pairs(&pairs);
            prop_assert_eq!(parse_pairs(&map), Some(bytes(&pairs)));
        }

        #[test]
        fn no_bytes_make_the_map_reader_panic(map in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = parse_pairs(&map);
        }
    }
}
