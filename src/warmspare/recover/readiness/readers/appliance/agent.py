"""The program in the throw-away machine: mounts volumes read-only and answers for their files; owns their protocol.

Busybox's shell runs it. A question is a line of words and a line with a path, which may hold anything but a line end.
An answer is a line: a word for what it is, the length of the bytes behind the line, and text. The disks can be written
to there, so that journals are replayed as they would be at a start; what is written is thrown away.
"""

from __future__ import annotations

READY = "ready"
# Of an answer: bytes follow; not there; a link that leads to nothing on this volume; no such kind of file; an error.
FOUND, MISSING, LINK, OTHER, ERROR = "f", "n", "l", "o", "e"

SETUP = r"""#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /t /m
/bin/busybox --install -s /bin
export PATH=/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmpfs /t
mkdir -p /dev/mapper /run/lvm /run/lock
load() { # GROUP: of modules
    [ -f /modules/$1 ] || return
    while read -r name; do insmod /modules/$name.ko 2>/dev/null; done < /modules/$1
    rm /modules/$1
}
load base
echo 2 > /proc/sys/kernel/printk
for word in $(cat /proc/cmdline); do case $word in disks=*) disks=${word#disks=};; esac; done
tries=0
while [ ! -c /dev/vport0p1 ] || [ $(ls /sys/class/scsi_disk 2>/dev/null | wc -l) -lt $disks ]; do
    tries=$((tries + 1)); [ $tries -gt 600 ] && break; usleep 50000
done
# Which disk is which, by its LUN.
lun=0
while [ $lun -lt $disks ]; do
    for path in /sys/class/scsi_disk/*:$lun/device/block/*; do
        [ -d $path ] || continue
        name=${path##*/}
        ln -s $name /dev/disk$lun
        for part in $path/$name*; do
            [ -f $part/partition ] && ln -s ${part##*/} /dev/disk${lun}p$(cat $part/partition)
        done
    done
    lun=$((lun + 1))
done
export LVM_SUPPRESS_FD_WARNINGS=1 MDADM_NO_UDEV=1 DM_DISABLE_UDEV=1
config='devices { use_devicesfile=0 obtain_device_list_from_udev=0 external_device_info_source="none" dir="/dev"
    scan=["/dev"] issue_discards=0 } activation { udev_sync=0 udev_rules=0 monitoring=0 }
    global { use_lvmpolld=0 thin_check_executable="" cache_check_executable="" locking_dir="/run/lock" }
    backup { backup=0 archive=0 }'
"""

_SERVE = r"""
say() { # WORD TEXT: an answer without bytes
    printf '%s 0 %s\n' "$1" "$(printf %s "$2" | tr '\n\r' '  ' | tail -c 600)" >&3
}

end='
'

missing() { why=n; [ $links -gt 0 ] && why=l; }

resolve() { # ROOT PATH: where that leads to, links within the root, as `real`; or `why` it leads nowhere
    real= todo=${2#/} links=0
    while [ -n "$todo" ]; do
        part=${todo%%/*}
        case $todo in */*) todo=${todo#*/};; *) todo=;; esac
        case $part in ''|.) continue;; ..) real=${real%/*}; continue;; esac
        if [ -L "$1$real/$part" ]; then
            links=$((links + 1))
            [ $links -gt 40 ] && { why=l; return 1; }
            link=$(readlink "$1$real/$part"; echo .)
            link=${link%??}
            case $link in /*) real=;; esac
            todo=$link/$todo
        else
            [ -d "$1$real" ] || { missing; return 1; }
            real=$real/$part
        fi
    done
    real=$1$real
    [ -e "$real" ] || { missing; return 1; }
}

list() ( # FOLDER: its names as they are, which ls would not print
    cd "$1" || exit
    for name in * .[!.]* ..?*; do
        if [ -d "$name" ] && [ ! -L "$name" ]; then printf '%s/\n' "$name"
        elif [ -e "$name" ] || [ -L "$name" ]; then printf '%s\n' "$name"
        fi
    done
)

exec 3<>/dev/vport0p1
echo ready >&3
while read -r verb one two three <&3 && IFS= read -r path <&3; do
    case $verb in
    mount) # NUMBER TYPE OPTIONS, DEVICE
        mkdir -p /m/$one
        [ -b "$path" ] || { say e "there is no such device"; continue; }
        load $two
        dmesg -c > /dev/null
        said=$(mount -t $two -o $three "$path" /m/$one 2>&1) && say f && continue
        why=$(dmesg | grep -iE "$two" | sed 's/^\[[^]]*\] *//' | head -n 2)
        say e "${why:-$said}"
        ;;
    lvm)
        load lvm
        said=$(lvm vgchange --config "$config" -ay --noudevsync 2>&1; lvm vgmknodes --config "$config" 2>&1)
        say f "$said"
        ;;
    md)
        load md
        said=$(mdadm --assemble --scan --run --config=partitions 2>&1)
        say f "$said"
        ;;
    read) # NUMBER BLOCK SKIP: a block of a file
        resolve /m/$one "$path" || { say $why; continue; }
        [ -f "$real" ] || { say o; continue; }
        said=$(dd if="$real" of=/t/c bs=$two skip=$three count=1 2>&1) || { say e "$said"; continue; }
        set -- $(stat -c %s /t/c "$real")
        printf 'f %s %s\n' $1 $2 >&3
        cat /t/c >&3
        ;;
    folder) # NUMBER: what a folder holds, kept to be asked for by pieces; names with a line end are counted
        resolve /m/$one "$path" || { say $why; continue; }
        [ -d "$real" ] || { say o; continue; }
        cd "$real" || { say e "it can't be entered"; continue; }
        said=$(find . -mindepth 1 -maxdepth 1 ! -name "*$end*" -exec stat -c '%f %s %Y %n' {} + 2>&1 >/t/l)
        odd=$(find . -mindepth 1 -maxdepth 1 -name "*$end*" -exec printf x \; 2>/dev/null | wc -c)
        cd /
        say f "$odd $said"
        ;;
    files) # NUMBER COUNT, and as many lines with names: what these files of a folder hold, one behind the other
        set --
        while [ $# -lt $two ]; do IFS= read -r name <&3; set -- "$@" "./$name"; done
        resolve /m/$one "$path" || { say $why; continue; }
        cd "$real" || { say e "it can't be entered"; continue; }
        said=$(cat "$@" 2>&1 >/t/c) || { cd /; say e "$said"; continue; }
        cd /
        printf 'f %s \n' $(stat -c %s /t/c) >&3
        cat /t/c >&3
        ;;
    piece) # NUMBER PIECE: a MiB of that list
        said=$(dd if=/t/l of=/t/c bs=1048576 skip=$two count=1 2>&1) || { say e "$said"; continue; }
        printf 'f %s \n' $(stat -c %s /t/c) >&3
        cat /t/c >&3
        ;;
    link) # NUMBER: where a link leads, as it says itself
        resolve /m/$one "${path%/*}/" || { say $why; continue; }
        [ -L "$real/${path##*/}" ] || { say o; continue; }
        readlink -n "$real/${path##*/}" > /t/c 2>/dev/null || { say e "it can't be read"; continue; }
        printf 'f %s \n' $(stat -c %s /t/c) >&3
        cat /t/c >&3
        ;;
    names) # NUMBER
        resolve /m/$one "$path" || { say $why; continue; }
        [ -d "$real" ] || { say o; continue; }
        said=$(ls "$real" 2>&1 >/dev/null) || { say e "$said"; continue; }
        list "$real" > /t/c
        printf 'f %s \n' $(stat -c %s /t/c) >&3
        cat /t/c >&3
        ;;
    esac
done
poweroff -f
"""

AGENT = SETUP + _SERVE
