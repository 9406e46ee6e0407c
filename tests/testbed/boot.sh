#!/bin/sh
# Turns a process in fresh namespaces into a machine and ends as its systemd. Told by the environment: NAME, BASE, FOLDER, OVERLAY (1 or 0),
# IP, IP6, NEIGHBOURS ("ip=mac ..."), CAPABILITIES (those to lose), LENT (a folder to show at LENT_AT, or nothing); a line on stdin says that eth0 is there.
set -eu
mount --make-rprivate /
root=$FOLDER/root
mkdir -p "$root"
if [ "$OVERLAY" = 1 ]; then
  mount -t overlay overlay -o "lowerdir=$BASE,upperdir=$FOLDER/upper,workdir=$FOLDER/work" "$root"
else
  mount --bind "$FOLDER/upper" "$root"
fi
if [ -n "$LENT" ]; then
  mkdir -p "$root/$LENT_AT"
  mount --bind "$LENT" "$root/$LENT_AT"
  mount -o remount,bind,ro "$root/$LENT_AT"
fi
read -r _there
ip link set lo up
ip addr add "$IP/24" dev eth0
ip addr add "$IP6/64" dev eth0 nodad
ip link set eth0 up
# Neighbours that are always known: a machine that is cut off is silence, and not "no route to host".
for pair in $NEIGHBOURS; do ip neigh replace "${pair%=*}" lladdr "${pair#*=}" dev eth0 nud permanent; done
cd "$root"
mount -t proc -o nosuid,noexec,nodev proc proc
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs run
# What of /proc reaches the host's kernel is for reading only; the network's part is the machine's own.
for name in sysrq-trigger sys; do
  [ -e "proc/$name" ] || continue
  mount --bind "proc/$name" "proc/$name"
  mount -o remount,bind,ro "proc/$name"
done
mount -t proc -o nosuid,noexec,nodev proc mnt
mount --bind mnt/sys/net proc/sys/net
umount mnt
# Each start is a boot of its own, as far as a program can see.
cat /proc/sys/kernel/random/uuid >run/.boot_id
mount --bind run/.boot_id proc/sys/kernel/random/boot_id
mount -t sysfs -o ro,nosuid,noexec,nodev sysfs sys
mount -t cgroup2 -o nosuid,noexec,nodev cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755,nosuid,size=16m tmpfs dev
while read -r name major minor mode; do mknod -m "$mode" "dev/$name" c "$major" "$minor"; done <<'NODES'
null 1 3 666
zero 1 5 666
full 1 7 666
random 1 8 666
urandom 1 9 666
tty 5 0 666
NODES
mkdir -p dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr
# A node of its own and no bind of the host's: systemd changes the owner and mode of its console.
mknod -m 600 dev/console c 1 3
hostname "$NAME"
lose=$CAPABILITIES
pivot_root . mnt
exec env -i container=testbed TERM=linux PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  setpriv --bounding-set="$lose" --inh-caps="$lose" sh -c 'umount -l /mnt; exec /sbin/init' </dev/null
