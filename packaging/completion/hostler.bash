# bash completion for hostler; goes to /usr/share/bash-completion/completions/hostler

_hostler_domains() { hostler domains 2>/dev/null | awk 'NR > 1 { print $1 }'; }
_hostler_degraded() { hostler status 2>/dev/null | awk '/^degraded: / && $2 != "a" { print $2 }'; }

_hostler() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} verb='' options='--json --socket --help' i
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
        --socket) ((i++)) ;;
        -*) ;;
        *)
            verb=${COMP_WORDS[i]}
            break
            ;;
        esac
    done
    case $before in
    --socket | --root | --xml | --policy)
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
        return
        ;;
    --domain | --what-if)
        mapfile -t COMPREPLY < <(compgen -W "$(_hostler_domains)" -- "$word")
        return
        ;;
    esac
    local words=''
    case $verb in
    '') words='status devices cpus domains gpu isolate pins plan doctor watch reload retry simulate hook help' options+=' --version' ;;
    devices) options+=' --all --root' ;;
    cpus) options+=' --what-if --root' ;;
    domains)
        options+=' --xml'
        if [[ " ${COMP_WORDS[*]} " == *' --xml '* ]]; then
            compopt -o filenames
            [[ $word == -* ]] || mapfile -t COMPREPLY < <(compgen -f -- "$word")
        else
            [[ $word == -* ]] || words=$(_hostler_domains)
        fi
        ;;
    gpu)
        options+=' --dry-run --live --model --no-video'
        case $before in
        gpu) [[ $word == -* ]] || words=$(_hostler_domains) ;;
        --model) words='virtio qxl bochs' ;;
        passthrough | slice | emulated | undo) ;;
        *) [[ $word == -* ]] || words='passthrough slice emulated undo' ;;
        esac
        ;;
    pins)
        options+=' --dry-run'
        case $before in
        pins) [[ $word == -* ]] || words=$(_hostler_domains) ;;
        *) [[ $word == -* ]] || words='undo' ;;
        esac
        ;;
    isolate)
        options+=' --cpus --same-l3 --same-node --smt --class --profile --name'
        case $before in
        --smt) words='pair isolate' ;;
        --class) words='performance efficiency' ;;
        --profile) words='balanced latency realtime none' ;;
        --cpus | --name) ;;
        *) [[ $word == -* ]] || mapfile -t COMPREPLY < <(compgen -c -- "$word") ;;
        esac
        ;;
    plan) options+=' --domain --root --xml --policy' ;;
    doctor) options+=' --all --root --policy' ;;
    retry) [[ $word == -* ]] || words=$(_hostler_degraded) ;;
    hook) options+=' --deadline' ;;
    help) words='status devices cpus domains gpu isolate pins plan doctor watch reload retry simulate hook' ;;
    esac
    [[ $word != -* ]] || words=$options
    ((${#COMPREPLY[@]})) || mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}
complete -F _hostler hostler
