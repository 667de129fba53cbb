# fish completion for hostler; goes to /usr/share/fish/vendor_completions.d/hostler.fish

function __hostler_domains
    hostler domains 2>/dev/null | awk 'NR > 1 { print $1 }'
end

function __hostler_degraded
    hostler status 2>/dev/null | awk '/^degraded: / && $2 != "a" { print $2 }'
end

set -l verbs status devices cpus domains gpu isolate pins plan doctor watch reload retry simulate hook help
complete -c hostler -f
complete -c hostler -l json -d 'print JSON'
complete -c hostler -l socket -r -F -d 'socket of the daemon'
complete -c hostler -l help -d 'print help'
complete -c hostler -n __fish_use_subcommand -l version -d 'print the version'
complete -c hostler -n __fish_use_subcommand -a status -d 'what the daemon makes of this host'
complete -c hostler -n __fish_use_subcommand -a devices -d 'Cards, who has them and what can be done'
complete -c hostler -n __fish_use_subcommand -a cpus -d 'the host as a map, and who has each CPU'
complete -c hostler -n __fish_use_subcommand -a domains -d 'domains: vCPUs, pins, devices'
complete -c hostler -n __fish_use_subcommand -a gpu -d 'change how a domain has its GPU'
complete -c hostler -n __fish_use_subcommand -a isolate -d 'run a command on CPUs that nobody else uses'
complete -c hostler -n __fish_use_subcommand -a pins -d 'write where a domain begins, or take it back'
complete -c hostler -n __fish_use_subcommand -a plan -d 'what the daemon would do next, with reasons'
complete -c hostler -n __fish_use_subcommand -a doctor -d 'what is in the way on this host, and what to do'
complete -c hostler -n __fish_use_subcommand -a watch -d 'what happens, as it happens'
complete -c hostler -n __fish_use_subcommand -a reload -d 'read the policy again'
complete -c hostler -n __fish_use_subcommand -a retry -d 'try again what is degraded'
complete -c hostler -n __fish_use_subcommand -a simulate -d 'drive a simulated host'
complete -c hostler -n __fish_use_subcommand -a hook -d 'what the qemu hook of libvirt calls'
complete -c hostler -n __fish_use_subcommand -a help -d 'tell more about a verb'
complete -c hostler -n '__fish_seen_subcommand_from help' -a "$verbs"
complete -c hostler -n '__fish_seen_subcommand_from devices' -l all -d 'every PCI function'
complete -c hostler -n '__fish_seen_subcommand_from doctor' -l all -d 'what is fine, too'
complete -c hostler -n '__fish_seen_subcommand_from devices cpus plan doctor' -l root -r -F -d 'a recorded host'
complete -c hostler -n '__fish_seen_subcommand_from domains plan' -l xml -r -F -d 'domain XML files'
complete -c hostler -n '__fish_seen_subcommand_from plan doctor' -l policy -r -F -d 'the policy in force'
complete -c hostler -n '__fish_seen_subcommand_from domains gpu pins' -a '(__hostler_domains)'
complete -c hostler -n '__fish_seen_subcommand_from pins' -a undo
complete -c hostler -n '__fish_seen_subcommand_from gpu' -a 'passthrough slice emulated undo'
complete -c hostler -n '__fish_seen_subcommand_from gpu pins' -l dry-run -d 'show the difference and change nothing'
complete -c hostler -n '__fish_seen_subcommand_from gpu' -l live -d 'in the running domain, too'
complete -c hostler -n '__fish_seen_subcommand_from gpu' -l model -x -a 'virtio qxl bochs' -d 'of the emulated display'
complete -c hostler -n '__fish_seen_subcommand_from gpu' -l no-video -d 'no emulated display besides'
complete -c hostler -n '__fish_seen_subcommand_from plan' -l domain -x -a '(__hostler_domains)' -d 'as if it started now'
complete -c hostler -n '__fish_seen_subcommand_from cpus' -l what-if -x -a '(__hostler_domains)' -d 'as if it started now'
complete -c hostler -n '__fish_seen_subcommand_from isolate' -a '(__fish_complete_command)'
complete -c hostler -n '__fish_seen_subcommand_from isolate' -l cpus -x -d 'how many'
complete -c hostler -n '__fish_seen_subcommand_from isolate' -l same-l3 -d 'only CPUs that share a level-3 cache'
complete -c hostler -n '__fish_seen_subcommand_from isolate' -l same-node -d 'only CPUs of one NUMA node'
complete -c hostler -n '__fish_seen_subcommand_from isolate' -l smt -x -a 'pair isolate' -d 'what siblings are for'
complete -c hostler -n '__fish_seen_subcommand_from isolate' -l class -x -a 'performance efficiency' -d 'only such cores'
complete -c hostler -n '__fish_seen_subcommand_from isolate' -l profile -x -a 'balanced latency realtime none' -d 'how quiet'
complete -c hostler -n '__fish_seen_subcommand_from isolate' -l name -x -d 'what it is called'
complete -c hostler -n '__fish_seen_subcommand_from retry' -a '(__hostler_degraded)'
complete -c hostler -n '__fish_seen_subcommand_from hook' -l deadline -x -d 'how long prepare may take'
