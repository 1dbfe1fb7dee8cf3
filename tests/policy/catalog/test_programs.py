"""Every system program that an operations agent may meet is described; the list is kept by hand, by package."""

from __future__ import annotations

import pytest

from policy import catalog

# The programs of each package of Debian 12 that the catalogue describes. One that leaves the catalogue fails here.
PROGRAMS = {
    "acct": "ac accton lastcomm sa",
    "acl": "chacl getfacl setfacl",
    "adduser": "addgroup adduser delgroup deluser",
    "anacron": "anacron",
    "ansible-core": """
        ansible ansible-config ansible-console ansible-doc ansible-galaxy ansible-inventory ansible-playbook
        ansible-pull ansible-test ansible-vault
    """,
    "apparmor": "aa-enabled aa-exec aa-remove-unknown aa-status aa-teardown apparmor_parser apparmor_status",
    "apparmor-utils": """
        aa-audit aa-autodep aa-cleanprof aa-complain aa-decode aa-disable aa-easyprof aa-enforce aa-genprof
        aa-logprof aa-mergeprof aa-unconfined
    """,
    "at": "at atd atq atrm batch",
    "atop": "atop atopsar",
    "attr": "attr getfattr setfattr",
    "auditd": "auditctl augenrules aulast aulastlog aureport ausearch ausyscall autrace",
    "bash builtins": """
        alias bg break builtin caller cd command continue dirs disown echo eval exec exit fg getopts hash help
        history jobs kill logout mapfile popd printf pushd pwd read readarray return set shift shopt source suspend
        test times trap type ulimit umask unset wait
    """,
    "bridge-utils": "brctl",
    "bsdextrautils": "col colcrt colrm column hd hexdump look ul write",
    "bsdutils": "logger renice script scriptlive scriptreplay wall",
    "btrfs-progs": """
        btrfs btrfs-convert btrfs-find-root btrfs-image btrfs-map-logical btrfs-select-super btrfsck btrfstune
        fsck.btrfs mkfs.btrfs
    """,
    "ceph-common": "ceph ceph-authtool ceph-conf rados radosgw-admin rbd",
    "chrony": "chronyc chronyd",
    "conntrack": "conntrack",
    "coreutils": """
        [ arch b2sum base32 base64 basename basenc cat chcon chgrp chmod chown chroot cksum comm cp csplit cut date
        dd df dir dircolors dirname du echo env expand expr factor false fmt fold groups head hostid id install join
        link ln logname ls md5sum mkdir mkfifo mknod mktemp mv nice nl nohup nproc numfmt od paste pathchk pinky pr
        printenv printf ptx pwd readlink realpath rm rmdir runcon seq sha1sum sha224sum sha256sum sha384sum
        sha512sum shred shuf sleep sort split stat stdbuf stty sum sync tac tail tee test timeout touch tr true
        truncate tsort tty uname unexpand uniq unlink users vdir wc who whoami yes
    """,
    "cron": "cron crontab",
    "cryptsetup-bin": "cryptsetup integritysetup veritysetup",
    "debianutils": "add-shell ischroot remove-shell run-parts savelog update-shells",
    "diffutils": "cmp diff diff3 sdiff",
    "dkms": "dkms",
    "dmidecode": "biosdecode dmidecode ownership vpddecode",
    "dmsetup": "blkdeactivate dmsetup dmstats",
    "dosfstools": """
        dosfsck dosfslabel fatlabel fsck.fat fsck.msdos fsck.vfat mkdosfs mkfs.fat mkfs.msdos mkfs.vfat
    """,
    "dracut-core": "dracut lsinitrd",
    "dstat": "dstat",
    "e2fsprogs": """
        badblocks chattr debugfs dumpe2fs e2freefrag e2fsck e2image e2label e2mmpstatus e2scrub e2scrub_all e2undo
        e4crypt e4defrag filefrag fsck.ext2 fsck.ext3 fsck.ext4 lsattr mke2fs mkfs.ext2 mkfs.ext3 mkfs.ext4
        mklost+found resize2fs tune2fs
    """,
    "edac-utils": "edac-util",
    "efibootmgr": "efibootmgr",
    "eject": "eject",
    "ethtool": "ethtool",
    "exfatprogs": "dump.exfat exfatlabel fsck.exfat mkfs.exfat tune.exfat",
    "f2fs-tools": "defrag.f2fs f2fscrypt f2fslabel fsck.f2fs mkfs.f2fs resize.f2fs sload.f2fs",
    "fdisk": "cfdisk fdisk sfdisk",
    "file": "file",
    "findutils": "find xargs",
    "firewalld": "firewall-cmd firewall-offline-cmd",
    "gdisk": "cgdisk fixparts gdisk sgdisk",
    "grep": "egrep fgrep grep rgrep",
    "grub-common": "grub-editenv grub-file grub-mkconfig grub-probe grub-script-check",
    "grub2-common": "grub-install grub-reboot grub-set-default update-grub update-grub2",
    "hdparm": "hdparm",
    "hostname": "dnsdomainname domainname hostname nisdomainname ypdomainname",
    "htop": "htop",
    "init-system-helpers": "deb-systemd-helper deb-systemd-invoke invoke-rc.d service update-rc.d",
    "initramfs-tools": "update-initramfs",
    "initramfs-tools-core": "lsinitramfs mkinitramfs unmkinitramfs",
    "inotify-tools": "inotifywait inotifywatch",
    "ipmitool": "ipmitool",
    "iproute2": """
        arpd bridge ctstat dcb devlink genl ip lnstat nstat rdma routel rtacct rtmon rtstat ss tc tipc vdpa
    """,
    "ipset": "ipset",
    "iptables": """
        arptables-nft arptables-nft-restore arptables-nft-save ebtables-nft ebtables-nft-restore ebtables-nft-save
        ebtables-translate ip6tables-apply ip6tables-legacy ip6tables-legacy-restore ip6tables-legacy-save
        ip6tables-nft ip6tables-nft-restore ip6tables-nft-save ip6tables-restore-translate ip6tables-translate
        iptables-apply iptables-legacy iptables-legacy-restore iptables-legacy-save iptables-nft
        iptables-nft-restore iptables-nft-save iptables-restore-translate iptables-translate xtables-monitor
    """,
    "kexec-tools": "coldreboot kexec",
    "kmod": "kmod lsmod",
    "kpartx": "kpartx",
    "less": "less",
    "libc-bin": "getconf getent iconv ldconfig ldd locale localedef pldd tzselect zdump zic",
    "libcap2-bin": "capsh getcap getpcaps setcap",
    "libpam-modules-bin": "faillock mkhomedir_helper",
    "libvirt-clients": "virsh virt-host-validate virt-pki-validate virt-xml-validate",
    "linux-cpupower": "cpupower turbostat",
    "lm-sensors": "sensors sensors-detect",
    "login": "faillog lastlog login newgrp nologin sg",
    "logrotate": "logrotate",
    "lshw": "lshw",
    "lsof": "lsof",
    "lsscsi": "lsscsi",
    "ltrace": "ltrace",
    "lvm2": """
        fsadm lvchange lvconvert lvcreate lvdisplay lvextend lvm lvmconfig lvmdiskscan lvmdump lvmpolld lvreduce
        lvremove lvrename lvresize lvs lvscan pvchange pvck pvcreate pvdisplay pvmove pvremove pvresize pvs pvscan
        vgcfgbackup vgcfgrestore vgchange vgck vgconvert vgcreate vgdisplay vgexport vgextend vgimport vgimportclone
        vgmerge vgmknodes vgreduce vgremove vgrename vgs vgscan vgsplit
    """,
    "lxc": """
        lxc-attach lxc-autostart lxc-cgroup lxc-checkconfig lxc-checkpoint lxc-config lxc-console lxc-copy
        lxc-create lxc-destroy lxc-device lxc-execute lxc-freeze lxc-info lxc-ls lxc-monitor lxc-snapshot lxc-start
        lxc-stop lxc-top lxc-unfreeze lxc-unpriv-attach lxc-unpriv-start lxc-unshare lxc-update-config
        lxc-usernsexec lxc-wait
    """,
    "mdadm": "mdadm mdmon",
    "mokutil": "mokutil",
    "moreutils": "chronic errno ifne isutf8 lckdo mispipe parallel pee sponge ts vidir vipe",
    "mount": "losetup mount swapoff swapon umount",
    "multipath-tools": "mpathpersist multipath multipathd",
    "ncal": "cal ncal",
    "net-tools": "arp ifconfig ipmaddr iptunnel mii-tool nameif netstat plipconfig rarp route slattach",
    "nftables": "nft",
    "ntfs-3g": """
        mkfs.ntfs mkntfs ntfscat ntfsclone ntfscluster ntfscp ntfsfix ntfsinfo ntfslabel ntfsls ntfsresize
        ntfstruncate ntfsundelete ntfswipe
    """,
    "ntpsec": "ntpd ntpq ntptime ntptrace",
    "ntpsec-ntpdate": "ntpdate",
    "numactl": "migratepages numactl numastat",
    "nvme-cli": "nvme",
    "others": """
        lxc incus bpftrace perf tcpdump socat supervisorctl pm2 monit sv initctl nvidia-smi qemu-img bpftool
        turbostat grubby mkinitcpio dracut rc-update chkconfig netplan brctl nstat growpart iptables nft ufw sar
        journalctl less man info mlocate locate
    """,
    "parted": "parted partprobe",
    "passwd": """
        chage chfn chgpasswd chpasswd chsh cpgr cppw expiry gpasswd groupadd groupdel groupmems groupmod grpck
        grpconv grpunconv newusers passwd pwck pwconv pwunconv shadowconfig useradd userdel usermod vigr vipw
    """,
    "pciutils": "lspci setpci update-pciids",
    "pcp": "pcp pmdumplog pminfo pmloglabel pmlogsummary pmprobe pmrep pmstat pmval",
    "plocate": "plocate updatedb.plocate",
    "policycoreutils": "fixfiles load_policy restorecon secon semodule sestatus setfiles setsebool",
    "policycoreutils-python-utils": "audit2allow audit2why chcat semanage",
    "postfix": """
        postalias postcat postconf postdrop postfix postkick postlock postlog postmap postmulti postqueue postsuper
        qshape
    """,
    "procps": """
        free kill pgrep pidwait pkill pmap ps pwdx skill slabtop snice sysctl tload top uptime vmstat w watch
    """,
    "prometheus": "promtool",
    "prometheus-alertmanager": "amtool",
    "proxmox": "qm pct pvesm pvecm pveversion vzdump",
    "psmisc": "fuser killall peekfd prtstat pslog pstree",
    "quota": """
        convertquota edquota quota quotacheck quotaoff quotaon quotastats quotasync repquota setquota warnquota
    """,
    "rasdaemon": "ras-mc-ctl",
    "sdparm": "sdparm",
    "selinux-utils": """
        avcstat getdefaultcon getenforce getfilecon getpidcon getsebool getseuser matchpathcon sefcontext_compile
        selinuxenabled setenforce setfilecon togglesebool
    """,
    "smartmontools": "smartctl smartd update-smart-drivedb",
    "squid": "squid",
    "strace": "strace strace-log-merge",
    "sudo": "cvtsudoers sudo sudoedit sudoreplay visudo",
    "sysstat": "cifsiostat iostat mpstat pidstat sadf tapestat",
    "systemd": """
        busctl hostnamectl journalctl kernel-install localectl loginctl networkctl systemctl systemd systemd-analyze
        systemd-ask-password systemd-cat systemd-cgls systemd-cgtop systemd-creds systemd-cryptenroll systemd-delta
        systemd-detect-virt systemd-escape systemd-firstboot systemd-id128 systemd-inhibit systemd-machine-id-setup
        systemd-mount systemd-notify systemd-path systemd-repart systemd-run systemd-socket-activate
        systemd-stdio-bridge systemd-sysext systemd-sysusers systemd-tmpfiles systemd-tty-ask-password-agent
        systemd-umount timedatectl
    """,
    "systemd-container": "machinectl portablectl systemd-dissect systemd-nspawn",
    "systemd-coredump": "coredumpctl",
    "systemd-homed": "homectl",
    "systemd-oomd": "oomctl",
    "systemd-resolved": "resolvectl",
    "systemd-userdbd": "userdbctl",
    "sysvinit-utils": "killall5",
    "thin-provisioning-tools": """
        cache_check cache_dump cache_repair cache_restore cache_writeback era_check era_dump era_invalidate
        era_restore thin_check thin_delta thin_dump thin_ls thin_repair thin_restore thin_rmap thin_trim
    """,
    "trace-cmd": "trace-cmd",
    "tree": "tree",
    "udev": "systemd-hwdb udevadm",
    "ufw": "ufw",
    "usbutils": "lsusb usb-devices usbreset",
    "util-linux": """
        addpart agetty blkdiscard blkid blkzone blockdev chcpu chmem choom chrt ctrlaltdel delpart dmesg fallocate
        findfs findmnt flock fsck fsck.cramfs fsck.minix fsfreeze fstrim getopt getty hardlink i386 ionice ipcmk
        ipcrm ipcs isosize last lastb ldattach linux32 linux64 lsblk lscpu lsipc lslocks lslogins lsmem lsns mcookie
        mesg mkfs mkfs.bfs mkfs.cramfs mkfs.minix mkswap more mountpoint namei nsenter partx pivot_root prlimit
        readprofile rename.ul resizepart rev rtcwake runuser setarch setpriv setsid setterm su sulogin swaplabel
        switch_root taskset uclampset unshare utmpdump wdctl whereis wipefs x86_64 zramctl
    """,
    "util-linux-extra": "fincore hwclock lsfd lsirq",
    "uuid-runtime": "uuidgen uuidparse",
    "vlan": "vconfig",
    "xfsdump": "xfsdump xfsinvutil xfsrestore",
    "xfsprogs": """
        fsck.xfs mkfs.xfs xfs_admin xfs_bmap xfs_copy xfs_db xfs_estimate xfs_freeze xfs_fsr xfs_growfs xfs_info
        xfs_io xfs_logprint xfs_mdrestore xfs_metadump xfs_mkfile xfs_ncheck xfs_quota xfs_repair xfs_rtcp xfs_scrub
        xfs_scrub_all xfs_spaceman
    """,
    "zfs": "zfs zpool zdb",
}


@pytest.mark.parametrize("package", PROGRAMS)
def test_no_program_of_a_package_vanishes(package: str) -> None:
    """I-16: a program that was described stays described, so that what it does is never guessed."""
    assert set(PROGRAMS[package].split()) - set(catalog.shipped()) == set()
