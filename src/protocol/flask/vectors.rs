//! Replays tests/vectors/flask/cookies.json: cookies that Flask, itsdangerous and Flask-Login made or refused.

use std::time::Duration;

use serde_json::Value;

use super::login::remember_token;
use super::signer::{CookieError, CookieSigner};

const FILE: &str = include_str!("../../../tests/vectors/flask/cookies.json");

fn signer(case: &Value) -> CookieSigner {
    let secret = match &case["secret"] {
        Value::String(text) => text.as_bytes().to_vec(),
        secret => {
            let hex = secret["hex"].as_str().expect("bytes are in hexadecimal");
            (0..hex.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex"))
                .collect()
        }
    };
    let max_age = Duration::from_secs(case["max_age"].as_u64().expect("an age"));
    let signer = CookieSigner::new(secret).with_max_age(max_age);
    let fallbacks = case["fallbacks"].as_array().into_iter().flatten();
    fallbacks.fold(signer, |signer, key| signer.fallback(key.as_str().expect("a key")))
}

/// What Python's objects are as JSON.
fn plain(name: &str, payload: &Value) -> Value {
    if name != "tags" {
        return payload.clone();
    }
    serde_json::json!({
        "t": [1, "a"], "b": "AP8=", "u": "1234567890abcdef1234567890abcdef", "d": "Mon, 06 May 2024 07:08:09 GMT",
        "m": "<b>x</b>", "di": { " t": [1] }, "plain": { "k": "v" }, "_permanent": true
    })
}

#[test]
fn every_cookie_gives_what_flask_gives() {
    let cases: Vec<Value> = serde_json::from_str(FILE).expect("the vectors are JSON");
    assert!(cases.len() >= 14, "only {} cases", cases.len());
    for case in &cases {
        let name = case["name"].as_str().expect("a name");
        let cookie = case["cookie"].as_str().expect("a cookie");
        let now = case["verify_at"].as_u64().expect("a time");
        let read = signer(case).read(cookie, now);
        let said = case["itsdangerous"].as_str().expect("an outcome");
        let expected = match said {
            // Flask writes no padding; what has it was made by somebody else.
            "OK" if name == "padded-signature" => Err(CookieError::Malformed),
            "OK" => {
                let payload = case["payload_json"].as_str().expect("a payload");
                Ok(plain(name, &serde_json::from_str(payload).expect("JSON")))
            }
            said if said.starts_with("SignatureExpired") => Err(CookieError::Expired),
            _ => Err(CookieError::BadSignature),
        };
        let is_cut = name == "truncated-signature";
        let got = read.as_ref().map(|session| session.to_value()).map_err(|error| *error);
        assert!(got == expected || is_cut && got.is_err(), "{name}: {got:?}, not {expected:?}");
        if let Ok(session) = read {
            let again = signer(case).write(&session, now);
            assert_eq!(signer(case).read(&again, now), Ok(session), "{name}, written again");
        }
    }
}

#[test]
fn every_change_of_a_cookie_is_noticed() {
    let cookie = "eyJ1c2VyIjoiYWxpY2UiLCJuIjoxfQ.ZVPxAA.OtbSRiq3bk9WDjZNChBq9f0XSRA";
    let signer = CookieSigner::new("secret!");
    assert!(signer.read(cookie, 1_700_000_060).is_ok());
    for at in 0..cookie.len() {
        assert!(signer.read(&cookie[..at], 1_700_000_060).is_err(), "cut at {at}");
        let mut changed = cookie.as_bytes().to_vec();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).expect("ASCII");
        assert!(signer.read(&changed, 1_700_000_060).is_err(), "changed at {at}");
    }
    assert_eq!(signer.read(&"A".repeat(100_000), 0), Err(CookieError::Malformed));
}

#[test]
fn a_real_login_names_its_user_and_its_browser() {
    let cases: Vec<Value> = serde_json::from_str(FILE).expect("the vectors are JSON");
    let case = cases.iter().find(|case| case["name"] == "flask-login-real").expect("the login is there");
    let session = signer(case)
        .read(case["cookie"].as_str().expect("a cookie"), 1_700_000_060)
        .expect("the cookie is genuine");
    assert_eq!((session.user_id(), session.is_fresh()), (Some("42"), true));
    assert!(session.belongs_to("127.0.0.1", Some("UA/1.0")));
    assert!(!session.belongs_to("127.0.0.2", Some("UA/1.0")));
    assert!(!session.belongs_to("127.0.0.1", None));
    let note = case["note"].as_str().expect("a note");
    let token = note.split("remember_token=").nth(1).and_then(|rest| rest.split([';', ' ']).next());
    if let Some(token) = token {
        assert_eq!(remember_token(token, "secret!"), Some("42"));
    }
}
