#!/bin/sh
# Prints the Secrets that the manifests name, new ones each time, for `kubectl apply --filename -`:
#
#   deploy/k8s/secrets.sh FOLDER [NAME...] | kubectl apply --filename -
#
# FOLDER, which must not exist yet, gets what people need: ca.crt, which callers believe; admin.token, the first token; and
# ca.key, the authority's key: put it away. NAME is a name or address by which callers from outside know the gateway and the
# web service.
#
# NAMESPACE is careca by default. ONLY names the Secrets to make, such as "redis-cache redis-jobs gateway-tokens
# web-session" where cert-manager makes the certificates. AUTHORITY is an earlier FOLDER, whose authority signs again. Needs
# openssl.
set -eu
umask 077

folder=$1
shift
namespace=${NAMESPACE:-careca}
days=825
mkdir "$folder"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

wanted() { # NAME
  case " ${ONLY:-$1} " in *" $1 "*) ;; *) return 1 ;; esac
}

secret() { # NAME KEY=FILE... prints one
  printf -- '---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: %s\n  namespace: %s\n' "$1" "$namespace"
  printf '  labels:\n    app.kubernetes.io/part-of: careca\ntype: Opaque\ndata:\n'
  shift
  for each in "$@"; do
    printf '  %s: %s\n' "${each%%=*}" "$(openssl base64 -A -in "${each#*=}")"
  done
}

password() { # NAME: a Redis and its password, in letters that need no escaping in a URL
  wanted "$1" || return 0
  openssl rand -hex 32 | tr -d '\n' > "$work/password"
  secret "$1" password="$work/password"
}

session_key() { # NAME: what encrypts the cookies of browsers that have signed in
  wanted "$1" || return 0
  openssl rand -hex 32 | tr -d '\n' > "$work/key"
  secret "$1" key="$work/key"
}

names_of() { # SERVICE...: its names in the cluster, as openssl wants them
  for each in "$@"; do
    printf 'DNS:%s,DNS:%s.%s,DNS:%s.%s.svc,DNS:%s.%s.svc.cluster.local,' \
      "$each" "$each" "$namespace" "$each" "$namespace" "$each" "$namespace"
  done
}

outside() { # NAME...: the same for names and addresses outside
  for each in "$@"; do
    case $each in
      *:* | *[0-9].[0-9]*.[0-9]*.[0-9]*) printf 'IP:%s,' "$each" ;;
      *) printf 'DNS:%s,' "$each" ;;
    esac
  done
}

certificate() { # SECRET USAGE NAMES
  wanted "$1" || return 0
  [ -f "$folder/ca.crt" ] || authority
  printf '[v3]\nbasicConstraints=critical,CA:false\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=%s\nsubjectAltName=%s\n' \
    "$2" "${3%,}" > "$work/extensions"
  openssl ecparam -name prime256v1 -genkey -noout -out "$work/ec.key"
  openssl pkcs8 -topk8 -nocrypt -in "$work/ec.key" -out "$work/tls.key"
  openssl req -new -key "$work/tls.key" -subj "/CN=$1" -out "$work/tls.csr"
  openssl x509 -req -in "$work/tls.csr" -CA "$folder/ca.crt" -CAkey "$folder/ca.key" -set_serial "0x$(openssl rand -hex 16)" \
    -days "$days" -sha256 -extfile "$work/extensions" -extensions v3 -out "$work/tls.crt" 2> "$work/log" || {
    cat "$work/log" >&2
    exit 1
  }
  secret "$1" ca.crt="$folder/ca.crt" tls.crt="$work/tls.crt" tls.key="$work/tls.key"
}

authority() {
  if [ -n "${AUTHORITY:-}" ]; then
    cp "$AUTHORITY/ca.crt" "$AUTHORITY/ca.key" "$folder"
    return
  fi
  openssl ecparam -name prime256v1 -genkey -noout -out "$folder/ca.key"
  openssl req -x509 -new -key "$folder/ca.key" -subj /CN=Careca -days 3650 -sha256 -out "$folder/ca.crt" \
    -addext basicConstraints=critical,CA:true -addext keyUsage=critical,keyCertSign,cRLSign
}

tokens() { # NAME: the file of tokens with the hash of a first one
  wanted "$1" || return 0
  printf 'careca_%s' "$(openssl rand -hex 32)" > "$folder/admin.token"
  hash=$(openssl dgst -sha256 -r "$folder/admin.token")
  printf '[[token]]\nname = "admin"\nrole = "admin"\nsha256 = "%s"\n' "${hash%% *}" > "$work/tokens.toml"
  secret "$1" tokens.toml="$work/tokens.toml"
}

certificate gateway-tls serverAuth "$(names_of gateway gateways)$(outside "$@")"
certificate web-tls serverAuth "$(names_of web)$(outside "$@")"
certificate gateway-services-tls clientAuth "DNS:gateway.$namespace.svc"
certificate transcriber-tls serverAuth "$(names_of transcriber)"
certificate diarizer-tls serverAuth "$(names_of diarizer)"
password redis-cache
password redis-jobs
tokens gateway-tokens
session_key web-session
