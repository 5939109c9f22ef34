//! Templates of trust rules: different claims never make the same text, and none leaves its path.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mayfly_attest::template::Template;
use mayfly_attest::{ClaimValue, Claims};

fuzz_target!(|input: (&str, [&str; 4])| {
    let (shape, [a, b, c, d]) = input;
    let Ok(template) = Template::parse(shape) else { return };
    let claims = |one: &str, two: &str| -> Claims {
        let text = |t: &str| ClaimValue::Text(t.to_owned());
        template
            .claims()
            .enumerate()
            .map(|(n, name)| (name.to_owned(), text(if n % 2 == 0 { one } else { two })))
            .collect()
    };
    let (first, second) = (claims(a, b), claims(c, d));
    if let (Ok(one), Ok(two)) = (template.fill(&first), template.fill(&second)) {
        assert_eq!(one == two, first == second, "{one}");
    }
});
