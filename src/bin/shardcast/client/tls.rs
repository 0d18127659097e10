//! TLS from a client's side: whose certificates are believed.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// Who may have signed a server's certificate.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trust<'a> {
    /// An authority of this machine, or of a PEM file.
    SystemAnd(Option<&'a Path>),
    /// An authority of a PEM file alone.
    File(&'a Path),
    /// Everybody: for servers under test that sign their own.
    Everybody,
}

/// TLS with servers of which this is believed, for HTTP/1.1 alone, as a WebSocket needs it.
pub(crate) fn client_config(trust: Trust<'_>) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be used: {error}"))?;
    let mut config = match roots(trust)? {
        Some(roots) => builder.with_root_certificates(roots).with_no_client_auth(),
        None => {
            let anybody = Arc::new(Anybody(provider));
            builder.dangerous().with_custom_certificate_verifier(anybody).with_no_client_auth()
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// The authorities that are believed; `None`: all certificates are.
fn roots(trust: Trust<'_>) -> Result<Option<RootCertStore>, String> {
    let mut roots = RootCertStore::empty();
    let file = match trust {
        Trust::Everybody => return Ok(None),
        Trust::File(path) => Some(path),
        Trust::SystemAnd(path) => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            path
        }
    };
    if let Some(path) = file {
        let refuse = |why: &str| format!("--ca {}: {why}", path.display());
        let text = std::fs::read(path).map_err(|error| refuse(&error.to_string()))?;
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        let certificates = certificates.map_err(|error| refuse(&format!("not a PEM file: {error}")))?;
        if roots.add_parsable_certificates(certificates).0 == 0 {
            return Err(refuse(
                "holds no certificate; write the PEM file of the authority that signed the server's",
            ));
        }
    }
    if roots.is_empty() {
        return Err(
            "this machine has no certificate authorities: install ca-certificates, or name one by --ca FILE"
                .to_owned(),
        );
    }
    Ok(Some(roots))
}

/// Believes every certificate, and checks that the server has its key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_refused_by_name() {
        for (path, expected) in [("/nonexistent.pem", "No such file"), ("/dev/null", "holds no certificate")]
        {
            for trust in [Trust::File(Path::new(path)), Trust::SystemAnd(Some(Path::new(path)))] {
                let error = client_config(trust).unwrap_err();
                assert!(error.contains(path) && error.contains(expected), "{error}");
            }
        }
    }
}
