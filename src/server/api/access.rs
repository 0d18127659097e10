//! Who asks: a token, compared in constant time, what it may do, and how often. A value: it is told the time.

use sha2::{Digest as _, Sha256};

use crate::base::time::Time;
use crate::config::api::{ApiToken, Scope};
use crate::protocol::http::authorization::{Authorization, is_same_digest};
use crate::server::api::fields::Fault;
use crate::server::api::table::Code;
use crate::shard::value::bucket::Bucket;

/// A token that is known, by a digest of it.
pub(super) struct Holder {
    /// Its own as long as the server runs, whichever tokens come and go.
    pub(super) number: u32,
    digest: [u8; 32],
    scopes: Vec<Scope>,
    namespaces: Vec<String>,
}

/// Everybody who may ask.
#[derive(Default)]
pub(super) struct Holders {
    all: Vec<Holder>,
    /// The number of the next one.
    next: u32,
}

impl Holders {
    pub(super) fn new(tokens: &[ApiToken]) -> Holders {
        Holders::default().renewed(tokens)
    }

    /// Those who may ask when the tokens are these: a token that was there keeps its number.
    pub(super) fn renewed(&self, tokens: &[ApiToken]) -> Holders {
        let mut next = self.next;
        let holder = |token: &ApiToken| {
            let digest: [u8; 32] = Sha256::digest(&token.token).into();
            let known = self.all.iter().find(|holder| is_same_digest(&holder.digest, &digest));
            let number = known.map_or(next, |holder| holder.number);
            next += u32::from(known.is_none());
            Holder { number, digest, scopes: token.scopes.clone(), namespaces: token.namespaces.clone() }
        };
        let all = tokens.iter().map(holder).collect();
        Holders { all, next }
    }

    pub(super) fn has(&self, number: u32) -> bool {
        self.all.iter().any(|holder| holder.number == number)
    }

    pub(super) fn holder(&self, index: usize) -> &Holder {
        &self.all[index]
    }

    /// Whose the header `Authorization` is. It takes as long whichever it is: all are compared, by their digests, to the last byte.
    pub(super) fn find(&self, authorization: Option<&str>) -> Result<(usize, &Holder), Fault> {
        let refused = |message: &str| Fault::new(Code::Unauthorized, message);
        let Some(header) = authorization else {
            return Err(refused("the header Authorization is missing: Authorization: Bearer TOKEN"));
        };
        let Authorization::Bearer(token) = Authorization::parse(header) else {
            return Err(refused("the scheme of Authorization is Bearer, followed by a token"));
        };
        let digest: [u8; 32] = Sha256::digest(token).into();
        let mut found = None;
        for (index, holder) in self.all.iter().enumerate() {
            if is_same_digest(&holder.digest, &digest) {
                found = Some((index, holder));
            }
        }
        found.ok_or_else(|| refused("the token is none of api_tokens"))
    }
}

impl Holder {
    pub(super) fn check_scope(&self, scope: Option<Scope>) -> Result<(), Fault> {
        match scope {
            Some(scope) if !self.scopes.contains(&scope) => {
                let word = scope.word();
                Err(Fault::new(Code::ForbiddenScope, format!("the token lacks the scope {word}")))
            }
            _ => Ok(()),
        }
    }

    /// `endpoint`: a further one. Namespaces of a token are those of the configuration's own.
    pub(super) fn check_place(&self, endpoint: Option<&str>, namespace: Option<&str>) -> Result<(), Fault> {
        match namespace {
            _ if endpoint.is_some() && !self.namespaces.is_empty() => Err(Fault::at(
                Code::ForbiddenNamespace,
                "endpoint",
                format!("the token is for {} of the main endpoint only", self.namespaces.join(", ")),
            )),
            Some(namespace) if !self.may_see(namespace) => Err(Fault::at(
                Code::ForbiddenNamespace,
                "namespace",
                format!("the token is for {} only", self.namespaces.join(", ")),
            )),
            _ => Ok(()),
        }
    }

    pub(super) fn may_see(&self, namespace: &str) -> bool {
        self.namespaces.is_empty() || self.namespaces.iter().any(|known| known == namespace)
    }
}

/// How often one token has asked.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rate(Bucket);

impl Rate {
    /// Takes so many requests, of so many a second. What is begun within the rate may go beyond it, and is waited for afterwards.
    pub(super) fn take(&mut self, requests: u64, a_second: u32, now: Time) -> Result<(), Fault> {
        let per_second = a_second as usize;
        if per_second == 0 {
            return Ok(());
        }
        self.0.charge(requests, now, per_second, per_second).map_err(|wait| {
            let seconds = wait.as_millis().div_ceil(1000) as u64;
            let message =
                format!("more than api_rate = {a_second} requests a second; try again in {seconds} s");
            Fault::new(Code::TooManyRequests, message).retry_after(seconds)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::api::ApiTokens;

    const TOKEN: &str = "5f2b8c6d9e0a41738b6c5d4e3f2a1b0c";

    #[test]
    fn a_token_is_known_by_its_header_only() {
        let other = TOKEN.replace('5', "6");
        let tokens =
            ApiTokens::new([format!("{other} read"), format!("{TOKEN} emit /chat")]).parse().unwrap();
        let holders = Holders::new(&tokens);
        let rows = [
            (Some(format!("Bearer {TOKEN}")), Some(1)),
            (Some(format!("bearer  {TOKEN} ")), Some(1)),
            (Some(format!("Bearer {other}")), Some(0)),
            (Some(format!("Bearer {TOKEN}x")), None),
            (Some(format!("Bearer {}", &TOKEN[1..])), None),
            (Some(format!("Basic {TOKEN}")), None),
            (Some(TOKEN.to_owned()), None),
            (Some("Bearer".to_owned()), None),
            (Some(String::new()), None),
            (None, None),
        ];
        for (header, expected) in rows {
            let found = holders.find(header.as_deref());
            assert_eq!(found.as_ref().map(|(index, _)| *index).ok(), expected, "{header:?}");
            assert!(found.map_or_else(|fault| fault.code == Code::Unauthorized, |_| true));
        }
        let (_, holder) = holders.find(Some(&format!("Bearer {TOKEN}"))).ok().unwrap();
        assert!(holder.check_scope(Some(Scope::Emit)).is_ok() && holder.check_scope(None).is_ok());
        assert_eq!(holder.check_scope(Some(Scope::Read)).unwrap_err().code, Code::ForbiddenScope);
        assert!(holder.check_place(None, Some("/chat")).is_ok() && holder.check_place(None, None).is_ok());
        for (endpoint, namespace) in [(None, "/"), (Some("/admin.io/"), "/chat")] {
            let refused = holder.check_place(endpoint, Some(namespace)).unwrap_err();
            assert_eq!(refused.code, Code::ForbiddenNamespace, "{endpoint:?} {namespace}");
        }
        let (_, unbound) = holders.find(Some(&format!("Bearer {other}"))).ok().unwrap();
        assert!(unbound.check_place(Some("/admin.io/"), Some("/chat")).is_ok());
    }

    #[test]
    fn a_rate_is_kept_and_says_when_to_come_again() {
        let mut rate = Rate::default();
        for _ in 0..10 {
            assert!(rate.take(1, 10, Time(5_000)).is_ok());
        }
        assert_eq!(rate.take(1, 10, Time(5_000)).unwrap_err().retry_after, Some(1));
        assert!(rate.take(1, 10, Time(5_100)).is_ok(), "a tenth of a second later there is one more");
        assert!(rate.take(1, 10, Time(5_100)).is_err());
        // A large batch goes through at once, and is paid for afterwards.
        let mut rate = Rate::default();
        assert!(rate.take(100, 10, Time(0)).is_ok());
        assert_eq!(rate.take(1, 10, Time(0)).unwrap_err().retry_after, Some(10));
        assert!(rate.take(1, 10, Time(9_000)).is_err());
        assert!(rate.take(1, 10, Time(9_100)).is_ok());
        let mut rate = Rate::default();
        assert!((0..10_000).all(|_| rate.take(1, 0, Time(0)).is_ok()), "0 is no limit");
    }
}
