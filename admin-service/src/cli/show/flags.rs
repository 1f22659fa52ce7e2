//! The API's names of fields as the command line's flags, in sentences for a person.

/// The fields that flags stand for; what is not here is a word of the API's alone.
const FLAGS: &[(&str, &str)] = &[
    ("allowed_cidrs", "--allowed-cidr"),
    ("delete_expired.after", "--delete-expired-after"),
    ("delete_expired.every", "--delete-expired-every"),
    ("description", "--description"),
    ("displayName", "--display-name"),
    ("emailAddress", "--email-address"),
    ("expires_at", "--expires-at"),
    ("expires_before", "--expires-before"),
    ("expires_in", "--expires-in"),
    ("ignore_restrictions", "--ignore-restrictions"),
    ("last_used_before", "--last-used-before"),
    ("max_lifetime", "--max-lifetime"),
    ("max_tokens_per_user", "--max-tokens-per-user"),
    ("overlap", "--overlap"),
    ("schemes", "--scheme"),
    ("scopes", "--scope"),
    ("since", "--since"),
    ("timeZone", "--time-zone"),
    ("until", "--until"),
];

/// A sentence with the flag in the place of each field that it names in backticks.
pub(in crate::cli) fn with_flags(sentence: &str) -> String {
    let mut text = sentence.replace("The query parameter `", "`");
    for (field, flag) in FLAGS {
        if text.contains(field) {
            text = text.replace(&format!("`{field}`"), flag);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_become_flags_and_other_words_stay() {
        assert_eq!(
            with_flags(
                "The query parameter `since` must be a time; import with `ignore_restrictions`, or `user` `x`"
            ),
            "--since must be a time; import with --ignore-restrictions, or `user` `x`"
        );
    }
}
