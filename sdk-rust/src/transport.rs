//! Real connections: TCP, and TLS over it with rustls.
//!
//! A certificate is always verified unless the caller used the one option whose name says what it does. Writing to a lost connection
//! is an error and never a signal, whatever program this is part of. Knows no frames.

use std::fmt;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::address::ServerAddress;
use crate::environment::{ByteStream, ConnectFuture, Connector};
use crate::error::{Error, Result};

/// How TLS is spoken where an address asks for it.
///
/// ```
/// use levada::{ClientOptions, TlsOptions};
///
/// let tls = TlsOptions { ca_file: Some("ca.pem".into()), ..TlsOptions::default() };
/// let options = ClientOptions::new().server("levada+tls://example.org").tls(tls);
/// # let _ = options;
/// ```
#[derive(Clone, Debug, Default)]
pub struct TlsOptions {
    /// Authorities to trust, in PEM, instead of the web's.
    pub ca_file: Option<PathBuf>,
    /// The name to verify, where it is not the host of the address.
    pub server_name: Option<String>,
    /// Accepts **any** certificate: whoever is on the path can read and change everything, credentials included.
    pub dangerously_accept_any_certificate: bool,
}

/// TCP and TLS of the operating system.
pub struct SystemConnector {
    tls: TlsConnector,
    server_name: Option<String>,
}

impl SystemConnector {
    /// A connector that trusts what `options` say.
    ///
    /// # Errors
    /// `CREDENTIALS_UNREADABLE` if the file of authorities cannot be read or holds none.
    pub fn new(options: &TlsOptions) -> Result<SystemConnector> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::internal(format!("no TLS version to offer: {error}")))?;
        let config = if options.dangerously_accept_any_certificate {
            tracing::warn!("certificates are not verified: anyone on the path can read and change everything");
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AcceptAny(provider))).with_no_client_auth()
        } else {
            builder.with_root_certificates(roots(options.ca_file.as_deref())?).with_no_client_auth()
        };
        Ok(SystemConnector { tls: TlsConnector::from(Arc::new(config)), server_name: options.server_name.clone() })
    }

    async fn open(&self, address: &ServerAddress) -> io::Result<Box<dyn ByteStream>> {
        let stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
        stream.set_nodelay(true)?;
        let stream = Unsignalled(stream);
        if !address.tls {
            return Ok(Box::new(stream));
        }
        let name = self.server_name.clone().unwrap_or_else(|| address.host.clone());
        let name = ServerName::try_from(name).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        Ok(Box::new(self.tls.connect(name, stream).await?))
    }
}

impl Connector for SystemConnector {
    fn connect<'a>(&'a self, address: &'a ServerAddress) -> ConnectFuture<'a> {
        Box::pin(self.open(address))
    }
}

impl fmt::Debug for SystemConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SystemConnector").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

/// MSG_NOSIGNAL. Other systems have no such signal, or an option of the socket that the runtime sets.
const NO_SIGNAL: i32 = if cfg!(any(target_os = "linux", target_os = "android")) { 0x4000 } else { 0 };

/// A TCP stream whose writes never raise SIGPIPE. `writev`, which is what a vectored write is otherwise, does, and a program whose
/// `main` is not Rust's, as one in C, ends by it.
struct Unsignalled(TcpStream);

impl AsyncRead for Unsignalled {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, into)
    }
}

impl AsyncWrite for Unsignalled {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(context))?;
            let send = || SockRef::from(&self.0).send_vectored_with_flags(slices, NO_SIGNAL);
            match self.0.try_io(Interest::WRITABLE, send) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

fn roots(ca_file: Option<&Path>) -> Result<rustls::RootCertStore> {
    let mut roots = rustls::RootCertStore::empty();
    let Some(path) = ca_file else {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        return Ok(roots);
    };
    let unreadable = |why: String| {
        Error::new(levada_protocol::ErrorCode::CredentialsUnreadable, format!("{}: {why}", path.display()))
            .with_detail("path", path.display())
    };
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unreadable(error.to_string()))? {
        let certificate = certificate.map_err(|error| unreadable(error.to_string()))?;
        roots.add(certificate).map_err(|error| unreadable(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(unreadable("it holds no certificate".to_owned()));
    }
    Ok(roots)
}

/// Accepts every certificate, but still checks that the peer holds its key.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
