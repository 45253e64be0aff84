extension Shell {
  /// Lines of shell that make `bin/sbatch`: a scheduler that does at once what a job says, each task of an array in turn, and notes in
  /// `asked` what it was called with.
  static let scheduler = """
    mkdir -p bin
    cat >bin/sbatch <<'END'
    #!/bin/bash
    cat >"$PWD/job.$$"
    last=$(sed -n 's/^#SBATCH --array=1-//p' "$PWD/job.$$")
    echo "$@" >>"$PWD/asked"
    for task in $(seq "${last:-1}"); do SLURM_ARRAY_TASK_ID=$task bash "$PWD/job.$$" >&2 || exit 1; done
    echo "$$;cluster"
    END
    chmod +x bin/sbatch
    """
}
