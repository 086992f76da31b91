//! The lab's certificate authority and the certificates of its services, right and wrong ones.

use super::{place::Service, switch::TlsFault};
use anyhow::Context as _;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use std::{collections::BTreeMap, sync::Arc};
use tokio_rustls::rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};

/// A certificate authority with its key.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

impl Authority {
    fn new(name: &str) -> anyhow::Result<Self> {
        let key = KeyPair::generate().context("key of the lab's certificate authority")?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let certificate = params.self_signed(&key).context("certificate of the lab's authority")?;
        Ok(Self { issuer: Issuer::new(params, key), certificate })
    }

    fn server(&self, names: Vec<String>) -> anyhow::Result<Arc<ServerConfig>> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names.clone()).with_context(|| format!("certificate for {names:?}"))?;
        params.distinguished_name.push(DnType::CommonName, names.first().map_or("", String::as_str));
        params.use_authority_key_identifier_extension = true;
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        let leaf = params.signed_by(&key, &self.issuer)?;
        let chain: Vec<CertificateDer<'static>> = vec![leaf.der().clone()];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// Server configurations for each service, ready made.
pub(super) struct Certificates {
    good: BTreeMap<Service, Arc<ServerConfig>>,
    untrusted: BTreeMap<Service, Arc<ServerConfig>>,
    wrong_name: Arc<ServerConfig>,
    /// The authority to trust, PEM.
    pub ca_pem: String,
}

impl Certificates {
    pub fn new() -> anyhow::Result<Self> {
        let trusted = Authority::new("hostagent lab CA")?;
        let stranger = Authority::new("an authority nobody trusts")?;
        let all = |authority: &Authority| -> anyhow::Result<BTreeMap<_, _>> {
            let made = Service::ALL.map(|s| authority.server(s.certificate_names()).map(|config| (s, config)));
            made.into_iter().collect()
        };
        Ok(Self {
            good: all(&trusted)?,
            untrusted: all(&stranger)?,
            wrong_name: trusted.server(vec!["intercepting-proxy.example.com".into()])?,
            ca_pem: trusted.certificate.pem(),
        })
    }

    /// What a listener of `service` shows, whatever name the client asked for. `None` for a handshake that hangs.
    pub fn config(&self, service: Service, fault: TlsFault) -> Option<Arc<ServerConfig>> {
        match fault {
            TlsFault::None => self.good.get(&service).cloned(),
            TlsFault::Untrusted => self.untrusted.get(&service).cloned(),
            TlsFault::WrongName => Some(self.wrong_name.clone()),
            TlsFault::Hang => None,
        }
    }
}
