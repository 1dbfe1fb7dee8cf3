"""The programs of each family: none may vanish from the catalogue, and no rule speaks under another program's name."""

from __future__ import annotations

import pytest

from policy import catalog
from policy.shell import Classified, classify

FAMILIES = {
    "packages": """
    apt apt-get apt-cache apt-mark apt-key apt-config apt-file add-apt-repository aptitude nala dpkg dpkg-query dpkg-deb
    dpkg-reconfigure dpkg-architecture debsums debconf-show debconf-set-selections dnf dnf5 yum microdnf tdnf
    yum-config-manager repoquery needs-restarting rpm rpmkeys rpm2cpio rpmbuild zypper pacman yay pacman-key pactree
    paccache makepkg apk xbps-query xbps-install xbps-remove xbps-pkgdb xbps-alternatives xbps-reconfigure emerge equery
    opkg snap flatpak brew nix nix-env nix-store nix-channel nix-shell nix-build nixos-rebuild guix pkg tlmgr rpm-ostree
    bootc transactional-update snapper eopkg port urpmi
    """,
    "languages": """
    pip pip3 pipx uv uvx poetry pdm pipenv conda mamba micromamba virtualenv pyenv rbenv nvm asdf volta npm npx pnpm
    yarn bun deno bundle bundler composer mix gem cpan cpanm luarocks opam cabal stack cargo rustup go mvn gradle dotnet
    npm-check
    """,
    "version control": "git git-lfs svn svnadmin svnlook hg bzr fossil cvs",
    "containers": "docker podman nerdctl docker-compose docker-machine crictl ctr buildah skopeo lxc incus",
    "clusters": """
    kubectl oc kubeadm kubectx kubens stern minikube kind k3s k9s kustomize istioctl argocd flux velero etcdctl etcdutl
    talosctl helm
    """,
    "clouds": """
    aws gcloud az doctl hcloud openstack oci eksctl flyctl heroku gh glab terraform tofu terragrunt pulumi packer
    vagrant ansible ansible-playbook ansible-doc ansible-inventory ansible-vault ansible-galaxy salt salt-call salt-key
    puppet knife chef-client s3cmd gsutil rclone mc vault consul nomad trivy grype sops age age-keygen gpg gpg2
    gpgv gpgconf
    gpg-agent gpg-zip gpg-card
    """,
}


@pytest.mark.parametrize("family", FAMILIES)
def test_no_program_of_a_family_is_missing(family: str) -> None:
    """A program that leaves the catalogue becomes opaque for everyone who uses it."""
    assert set(FAMILIES[family].split()) <= set(catalog.shipped())


@pytest.mark.parametrize(
    ("command", "rule"),
    [
        ("flatpak run org.example.App", "flatpak run"),
        ("snap list", "snap list"),
        ("conda list", "conda list"),
        ("xbps-query -l", "xbps-query"),
        ("port search x", "port search"),
        ("opam list", "opam list"),
    ],
)
def test_a_rule_names_the_program_it_judges(command: str, rule: str) -> None:
    """What a person reads about a command is about that command."""
    verdict = classify(command.encode())
    assert isinstance(verdict, Classified)
    assert [part.rule for part in verdict.parts] == [rule]
