//! A secret has no text, no copy and no serialized form; nor has a token.
use mayfly_domain::Secret;
use mayfly_mint::AccessToken;

fn text<T: std::fmt::Display>() {}
fn copy<T: Clone>() {}
fn write<T: serde::Serialize>() {}

pub fn all() {
    text::<Secret<String>>(); //~ E0277
    copy::<Secret<String>>(); //~ E0277
    write::<Secret<String>>(); //~ E0277
    text::<AccessToken>(); //~ E0277
    copy::<AccessToken>(); //~ E0277
    write::<AccessToken>(); //~ E0277
}

fn main() {}
