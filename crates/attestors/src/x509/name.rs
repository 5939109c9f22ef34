//! Distinguished names as text (RFC 4514): the same text never stands for two names.

use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use super::claims::hex;

/// Types that have a short name (RFC 4514 section 3).
const SHORT: &[(&str, &str)] = &[
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
];

/// The name, its last part first; types without a short name and values that are no text in hexadecimal digits.
pub(super) fn rfc4514(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> =
        name.iter_rdn().map(|rdn| rdn.iter().map(attribute).collect::<Vec<_>>().join("+")).collect();
    parts.reverse();
    parts.join(",")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let oid = attribute.attr_type().to_id_string();
    let short = SHORT.iter().find(|(known, _)| *known == oid).map(|(_, short)| *short);
    match (short, attribute.as_str()) {
        (Some(short), Ok(text)) => format!("{short}={}", escaped(text)),
        (Some(short), Err(_)) => format!("{short}=#{}", hex(attribute.as_slice())),
        (None, _) => format!("{oid}=#{}", hex(attribute.as_slice())),
    }
}

fn escaped(text: &str) -> String {
    let last = text.chars().count().saturating_sub(1);
    let mut out = String::with_capacity(text.len());
    for (n, c) in text.chars().enumerate() {
        match c {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => out.extend(['\\', c]),
            '#' if n == 0 => out.push_str("\\#"),
            ' ' if n == 0 || n == last => out.push_str("\\ "),
            c if c.is_control() => {
                let mut octets = [0; 4];
                out.extend(c.encode_utf8(&mut octets).bytes().map(|b| format!("\\{b:02X}")));
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn what_separates_is_escaped() {
        for (text, wanted) in [
            ("a,O=b", "a\\,O=b"),
            (" a ", "\\ a\\ "),
            (" ", "\\ "),
            ("#a#", "\\#a#"),
            ("a\0\nb", "a\\00\\0Ab"),
            ("Zoë \\", "Zoë \\\\"),
        ] {
            assert_eq!(escaped(text), wanted);
        }
    }
}
