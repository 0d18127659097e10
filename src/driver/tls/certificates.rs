//! The certificates that this server shows: read from PEM files, chosen by the name that a client asks for, replaced while it runs.
#![allow(clippy::disallowed_types, reason = "read once a handshake, and written when the files change")]

use std::sync::{Arc, PoisonError, RwLock};

use rustls::client::verify_server_name;
use rustls::crypto::ring;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, SignatureScheme};

use crate::driver::clock::unix_millis;
use crate::driver::tls::CertificateEnd;
use crate::driver::tls::validity::{not_after, shown};

/// What all handshakes of the process choose from.
pub(crate) struct Certificates {
    /// A certificate's file and its key's, in the order of the configuration.
    pub(super) files: Vec<(String, String)>,
    loaded: RwLock<Loaded>,
}

type Loaded = Arc<[Served]>;

/// A certificate with its key.
struct Served {
    certified: Arc<CertifiedKey>,
    /// When it ends, in seconds since 1970, if that can be read.
    end: Option<u64>,
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Certificates").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Certificates {
    /// Reads the files; an error names the one that is wrong.
    pub(crate) fn load(certificates: &[String], keys: &[String]) -> Result<Certificates, String> {
        let files: Vec<_> = certificates.iter().cloned().zip(keys.iter().cloned()).collect();
        let loaded = RwLock::new(load_all(&files)?);
        Ok(Certificates { files, loaded })
    }

    /// Reads the files again. If any is wrong, all that were there stay.
    pub(crate) fn reload(&self) -> Result<(), String> {
        let loaded = load_all(&self.files)?;
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(())
    }

    fn loaded(&self) -> Loaded {
        Arc::clone(&self.loaded.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The first certificate that is for the name and signs as the client understands; or else the first that signs so.
    fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let loaded = self.loaded();
        let can_sign = |one: &&Served| one.certified.key.choose_scheme(schemes).is_some();
        let named = name.and_then(|name| ServerName::try_from(name).ok());
        let is_for = |one: &&Served| named.as_ref().is_some_and(|name| is_for(&one.certified, name));
        let fitting = loaded.iter().filter(is_for).find(can_sign);
        fitting.or_else(|| loaded.iter().find(can_sign)).map(|one| Arc::clone(&one.certified))
    }

    /// When the certificate of each file ends, in seconds since 1970; one that does not say so clearly is left out.
    pub(crate) fn ends(&self) -> Vec<CertificateEnd> {
        let end = |((file, _), one): (&(String, String), &Served)| {
            Some(CertificateEnd { file: file.clone(), unix_seconds: one.end? })
        };
        self.files.iter().zip(self.loaded().iter()).filter_map(end).collect()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name(), hello.signature_schemes())
    }
}

fn is_for(certified: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let parsed = certified.end_entity_cert().and_then(ParsedCertificate::try_from);
    parsed.is_ok_and(|parsed| verify_server_name(&parsed, name).is_ok())
}

#[allow(clippy::disallowed_methods)] // On the thread that starts the server, or the one that watches the files.
fn load_all(files: &[(String, String)]) -> Result<Loaded, String> {
    files.iter().map(|(certificate, key)| load_one(certificate, key)).collect()
}

fn load_one(certificate: &str, key: &str) -> Result<Served, String> {
    let chain = read_chain(certificate)?;
    let private = read_key(key)?;
    let end = chain.first().and_then(|first| not_after(first));
    let certified = CertifiedKey::from_der(chain, private, &ring::default_provider());
    let certified = certified.map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => format!(
            "tls_key = {key:?}: it is not the key of the certificate in tls_cert = {certificate:?}; both lists have the same order"
        ),
        Error::InvalidCertificate(fault) => {
            format!("tls_cert = {certificate:?}: the first certificate cannot be used: {fault:?}")
        }
        error => format!("tls_key = {key:?}: the key cannot be used: {error}; RSA, ECDSA and Ed25519 are known"),
    })?;
    if let Some(end) = end.filter(|&end| end < unix_millis() / 1000) {
        tracing::warn!(
            tls_cert = certificate,
            expired = shown(end),
            "a certificate has expired, and clients refuse it: renew it; the file is read again when it changes"
        );
    }
    Ok(Served { certified: Arc::new(certified), end })
}

/// A certificate and those that lead from it to one that clients know.
fn read_chain(path: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let fault = |why: String| format!("tls_cert = {path:?}: {why}");
    let bytes = std::fs::read(path).map_err(|error| fault(error.to_string()))?;
    let chain: Result<Vec<_>, PemError> = CertificateDer::pem_slice_iter(&bytes).collect();
    let chain = chain.map_err(|error| fault(format!("it is no sound PEM file: {error}")))?;
    if chain.is_empty() {
        return Err(fault(format!("there is no certificate in it; {}", expected(&bytes, "CERTIFICATE"))));
    }
    Ok(chain)
}

fn read_key(path: &str) -> Result<PrivateKeyDer<'static>, String> {
    let fault = |why: String| format!("tls_key = {path:?}: {why}");
    let bytes = std::fs::read(path).map_err(|error| fault(error.to_string()))?;
    let is_encrypted = [&b"BEGIN ENCRYPTED PRIVATE KEY"[..], b"Proc-Type: 4,ENCRYPTED"]
        .iter()
        .any(|mark| memchr::memmem::find(&bytes, mark).is_some());
    if is_encrypted {
        return Err(fault(
            "it is encrypted; take the password off: openssl pkey -in OLD -out NEW".to_owned(),
        ));
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
        PemError::NoItemsFound => {
            fault(format!("there is no private key in it; {}", expected(&bytes, "PRIVATE KEY")))
        }
        // What the reader says of it may have bytes of the key in it.
        _ => fault("it is no sound PEM file; write it anew: openssl pkey -in OLD -out NEW".to_owned()),
    })
}

/// What a file should look like, in view of what it begins with.
fn expected(bytes: &[u8], what: &str) -> String {
    match bytes.first() {
        // A DER sequence.
        Some(0x30) => {
            "it is DER and not PEM: convert it with openssl x509 or openssl pkey, -inform der".to_owned()
        }
        _ => format!("a PEM file has a line -----BEGIN {what}-----"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::path::{Path, PathBuf};

    /// A folder of a test's own.
    pub(in crate::driver::tls) fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("shardcast-tls-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder of our own");
        folder
    }

    /// Writes a certificate of its own signature for these names, and its key.
    pub(in crate::driver::tls) fn write_pair(folder: &Path, file: &str, names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate is made");
        let path =
            |extension: &str| folder.join(format!("{file}.{extension}")).to_string_lossy().into_owned();
        std::fs::write(path("crt"), made.cert.pem()).expect("it is written");
        std::fs::write(path("key"), made.signing_key.serialize_pem()).expect("it is written");
        (path("crt"), path("key"))
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_with_its_name() {
        let folder = folder("faults");
        let (cert, key) = write_pair(&folder, "a", &["a.example"]);
        let (_, other) = write_pair(&folder, "b", &["b.example"]);
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.join(name).to_string_lossy().into_owned();
            std::fs::write(&path, bytes).expect("it is written");
            path
        };
        let text = write("text", b"no certificate");
        let der = write("der", &[0x30, 0x82, 1, 2]);
        let torn = write("torn", b"-----BEGIN CERTIFICATE-----\nAAAA\n");
        let empty = write("rubbish", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        let locked = write(
            "locked",
            b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        );
        let glued =
            write("glued", b"-----BEGIN PRIVATE KEY-- c2VjcmV0\nc2VjcmV0\n-----END PRIVATE KEY-----\n");
        for (cert, key, parts) in [
            ("/nowhere", &key[..], ["tls_cert = \"/nowhere\"", "No such file"]),
            (&cert, "/nowhere", ["tls_key = \"/nowhere\"", "No such file"]),
            (&text, &key, ["there is no certificate in it", "-----BEGIN CERTIFICATE-----"]),
            (&key, &key, ["tls_cert = ", "there is no certificate in it"]),
            (&der, &key, ["it is DER and not PEM", "-inform der"]),
            (&torn, &key, ["tls_cert = ", "it is no sound PEM file"]),
            (&empty, &key, ["tls_cert = ", "the first certificate cannot be used"]),
            (&cert, &cert, ["tls_key = ", "there is no private key in it"]),
            (&cert, &locked, ["tls_key = ", "it is encrypted"]),
            (&cert, &glued, ["tls_key = ", "it is no sound PEM file; write it anew"]),
            (&cert, &other, ["tls_key = ", "it is not the key of the certificate in tls_cert = "]),
        ] {
            let fault = Certificates::load(&[cert.to_owned()], &[key.to_owned()]).expect_err("it is wrong");
            assert!(parts.iter().all(|part| fault.contains(part)), "{fault:?} should say {parts:?}");
            assert!(!fault.contains("c2VjcmV0"), "{fault:?} has bytes of a key");
        }
        assert!(Certificates::load(&[cert], &[key]).is_ok());
    }

    #[test]
    fn the_name_chooses_and_a_bad_new_file_changes_nothing() {
        let folder = folder("names");
        let (first, first_key) = write_pair(&folder, "first", &["a.example"]);
        let (second, second_key) = write_pair(&folder, "second", &["b.example", "*.c.example"]);
        let certificates =
            Certificates::load(&[first.clone(), second.clone()], &[first_key, second_key.clone()])
                .expect("both are sound");
        let schemes = [SignatureScheme::ECDSA_NISTP256_SHA256];
        let chosen = |name: Option<&str>| {
            let chosen = certificates.choose(name, &schemes).expect("there is one");
            certificates.loaded().iter().position(|one| Arc::ptr_eq(&one.certified, &chosen))
        };
        for (name, place) in [
            (Some("a.example"), 0),
            (Some("b.example"), 1),
            (Some("x.c.example"), 1),
            (Some("nobody.example"), 0),
            (Some("..."), 0),
            (None, 0),
        ] {
            assert_eq!(chosen(name), Some(place), "{name:?}");
        }
        assert!(certificates.choose(None, &[SignatureScheme::RSA_PKCS1_SHA256]).is_none());
        let before = certificates.loaded();
        std::fs::write(&second_key, "torn").expect("it is written");
        let fault = certificates.reload().expect_err("a key is no key");
        assert!(fault.contains(&second_key), "{fault}");
        assert!(Arc::ptr_eq(&before, &certificates.loaded()), "all stay as they were");
        write_pair(&folder, "second", &["d.example"]);
        assert_eq!(certificates.reload(), Ok(()));
        assert_eq!(chosen(Some("d.example")), Some(1));
        let ends: Vec<_> = certificates.ends().into_iter().map(|end| end.file).collect();
        assert_eq!(ends, [first, second]);
        // rcgen's certificates end in the year 4096.
        assert!(
            certificates.ends().iter().all(|end| end.unix_seconds == 67_090_118_400),
            "{:?}",
            certificates.ends()
        );
    }
}
