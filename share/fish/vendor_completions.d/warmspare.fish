# Completion of warmspare for fish: what there is says the program itself, out of its tables and of what this host knows.
function __warmspare_ask
    set -l line (date +%s | string sub -l 9)(commandline -cp | string collect)  # what was told is true for some seconds
    test "$line" = "$__warmspare_line"; and return
    set -g __warmspare_line $line
    set -l before (commandline -opc)
    set -l program $before[1]
    set -e before[1]
    # Of a word that begins otherwise fish itself sees which candidates fit, in whatever quotes.
    set -l current (commandline -ct | string match -r -- '^-.*'; or echo)
    set -g __warmspare_lines ($program __complete fish $before $current 2>/dev/null)
    set -g __warmspare_kind $__warmspare_lines[1]
    set -e __warmspare_lines[1]
end
function __warmspare_words
    __warmspare_ask
    printf '%s\n' $__warmspare_lines
end
function __warmspare_files
    __warmspare_ask
    contains -- "$__warmspare_kind" file folder
end
complete -c warmspare -f -a '(__warmspare_words)'
complete -c warmspare -n __warmspare_files -F
