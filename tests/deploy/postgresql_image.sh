# Starts PostgreSQL as its official image does, for the little that the composition asks of it: the cluster is made
# with the password from POSTGRES_PASSWORD_FILE, by a server that nobody can reach, and then served to all.
set -eu
if [ "$(id -u)" = 0 ]; then
    chown postgres "$PGDATA"
    PASSWORD=$(cat "$POSTGRES_PASSWORD_FILE")
    export PASSWORD
    exec setpriv --reuid=postgres --regid=postgres --init-groups sh "$0"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    chmod 0700 "$PGDATA"
    echo "$PASSWORD" > /tmp/password
    initdb --username="$POSTGRES_USER" --pwfile=/tmp/password --auth-local=trust --auth-host=scram-sha-256 \
        --encoding=UTF8 --locale=C.UTF-8 --no-sync
    rm /tmp/password
    echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
    pg_ctl --options="-c listen_addresses='' -c unix_socket_directories=/tmp" --wait start
    createdb --host=/tmp --username="$POSTGRES_USER" "$POSTGRES_DB"
    pg_ctl --mode=fast --wait stop
fi
unset PASSWORD
exec postgres -c listen_addresses='*' -c unix_socket_directories=/tmp
