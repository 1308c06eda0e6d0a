//! TLS over a real loopback socket: what is trusted, what is refused.

use std::sync::Arc;

use levada::{Client, ClientOptions, Credentials, ErrorCode, ServerAddress, TlsOptions};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::stage::Stage;

struct TlsStage {
    address: String,
    folder: tempfile::TempDir,
}

impl TlsStage {
    /// Serves a stage behind a certificate for `localhost` that signs itself.
    async fn open() -> TlsStage {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), made.cert.pem()).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let stage = Stage::new(1);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if let Ok(stream) = acceptor.accept(stream).await {
                    tokio::spawn(stage.clone().serve(stream, 1));
                }
            }
        });
        TlsStage { address: format!("levada+tls://localhost:{port}"), folder }
    }

    fn options(&self) -> ClientOptions {
        ClientOptions::new().server(&self.address).credentials(Credentials::Anonymous)
    }

    fn trusting(&self) -> TlsOptions {
        TlsOptions { ca_file: Some(self.folder.path().join("ca.pem")), ..TlsOptions::default() }
    }
}

#[tokio::test]
async fn a_certificate_of_a_named_authority_is_trusted() {
    let stage = TlsStage::open().await;
    let client = Client::connect(stage.options().tls(stage.trusting())).await.unwrap();
    client.ping().await.unwrap();
}

#[tokio::test]
async fn an_unknown_certificate_is_refused_unless_the_caller_insists() {
    let stage = TlsStage::open().await;
    let error = Client::connect(stage.options()).await.unwrap_err();
    assert!(error.is(ErrorCode::TlsFailed), "{error}");
    assert!(!error.is_retriable());
    let anything = TlsOptions { dangerously_accept_any_certificate: true, ..TlsOptions::default() };
    Client::connect(stage.options().tls(anything)).await.unwrap().ping().await.unwrap();
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let stage = TlsStage::open().await;
    let port = stage.address.parse::<ServerAddress>().unwrap().port;
    let by_address = stage.options().server(format!("levada+tls://127.0.0.1:{port}"));
    let error = Client::connect(by_address.clone().tls(stage.trusting())).await.unwrap_err();
    assert!(error.is(ErrorCode::TlsFailed), "{error}");
    let named = TlsOptions { server_name: Some("localhost".to_owned()), ..stage.trusting() };
    Client::connect(by_address.tls(named)).await.unwrap();
}

#[tokio::test]
async fn a_missing_or_empty_authority_file_is_told() {
    let stage = TlsStage::open().await;
    let empty = stage.folder.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    for ca_file in [empty, stage.folder.path().join("none.pem")] {
        let tls = TlsOptions { ca_file: Some(ca_file), ..TlsOptions::default() };
        let error = Client::connect(stage.options().tls(tls)).await.unwrap_err();
        assert!(error.is(ErrorCode::CredentialsUnreadable), "{error}");
    }
}
