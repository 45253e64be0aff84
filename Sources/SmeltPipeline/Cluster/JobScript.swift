// Scripts that run one conversion, calibration or verification on a cluster: an array of tasks that write shares, and a join that waits for them. Text to be read
// and changed. Formats/cluster.md, section 8.

import SmeltStorage

/// What a script runs.
package struct JobScript: Sendable {
  /// A verb whose work tasks can share.
  package enum Verb: String, Sendable, CaseIterable {
    /// A model becomes another.
    case convert
    /// A text becomes statistics.
    case calibrate

    /// Two models and a text become a report.
    case verify

    /// What it does, for a title.
    fileprivate var title: String {
      switch self {
      case .convert: "conversion"
      case .calibrate: "calibration"
      case .verify: "verification"
      }
    }
  }

  /// The source and the result, as the tasks see them.
  package var model: String
  package var result: String
  /// The words of the verb behind these.
  package var words: [String]
  /// What is shared.
  package var verb: Verb
  /// What the parts are joined to.
  package var joined: String
  /// How many tasks share the work.
  package var tasks: Int
  /// The command: a name in PATH, or a path.
  package var command = "smelt"
  /// CPU cores and memory of a task, in the scheduler's own words; nil: its defaults.
  package var cores: Int?
  package var memory: String?
  /// How long a task may take, and where it runs, in Slurm's words.
  package var time: String?
  package var partition: String?
  /// The image with the command, and the claim of the volume that holds source and result at `mount`.
  package var image = "smelt"
  package var claim = "models"
  package var mount = "/data"

  /// A script.
  /// - Throws: `RequestError` usage where there is no task, or a path is not from the root.
  package init(_ verb: Verb, model: String, result: String, words: [String], tasks: Int) throws {
    self.verb = verb
    guard (1...100_000).contains(tasks) else {
      throw RequestError(.usage, "--nodes must be from 1 to 100000, found \(tasks)")
    }
    (self.model, self.result, self.words, self.tasks) = (model, withoutSlash(result), words, tasks)
    joined = self.result
  }

  /// A name that schedulers take: letters, digits and dashes.
  private var name: String {
    let letters = fileName(result).lowercased().map { $0.isASCII && ($0.isLetter || $0.isNumber) ? $0 : "-" }
    let trimmed = String(letters).split(separator: "-").joined(separator: "-").prefix(40)
    return "smelt-" + (trimmed.isEmpty ? "result" : trimmed)
  }

  // MARK: Slurm

  /// A script that submits an array of tasks and a join that waits for all of them.
  package var slurm: String {
    func options(_ more: [(String, String?)]) -> String {
      more.compactMap { key, value in value.map { "#SBATCH --\(key)=\(JobScript.directive($0))" } }.joined(
        separator: "\n")
    }
    let where_ = [("partition", partition), ("time", time)]
    let threads = cores.map { ["--threads", "\($0)"] } ?? []
    let task = ([model, result] + words).map(JobScript.shell).joined(separator: " ")
    return """
      #!/bin/bash
      # One \(verb.title) by \(tasks) tasks, then their join. Made by smelt \(smeltVersion); change what you like, then run it:
      #   bash THIS-FILE
      # A task that fails or is killed is run again by Slurm (--requeue), or by hand: it makes only what is missing.
      set -euo pipefail
      array=$(sbatch --parsable <<'TASK'
      #!/bin/bash
      #SBATCH --job-name=\(name)
      #SBATCH --array=1-\(tasks)
      #SBATCH --ntasks=1
      #SBATCH --requeue
      #SBATCH --open-mode=append
      #SBATCH --output=\(name)-%a.log
      \(options([("cpus-per-task", cores.map { "\($0)" }), ("mem", memory)] + where_))
      exec \(JobScript.shell(command)) \(verb.rawValue) \(task) \\
        --shard "$SLURM_ARRAY_TASK_ID/\(tasks)" \((threads + ["--quiet"]).joined(separator: " "))
      TASK
      )
      array=${array%%;*}
      join=$(sbatch --parsable --dependency="afterok:$array" --kill-on-invalid-dep=yes <<'JOIN'
      #!/bin/bash
      #SBATCH --job-name=\(name)-join
      #SBATCH --ntasks=1
      #SBATCH --output=\(name)-join.log
      \(options([("mem", memory)] + where_))
      exec \(JobScript.shell(command)) join \(JobScript.shell(partsFolder(joined))) \(JobScript.shell(joined)) --remove-parts --quiet
      JOIN
      )
      echo "tasks: $array, join: ${join%%;*}"

      """.split(separator: "\n", omittingEmptySubsequences: false).filter { !$0.isEmpty }.joined(
        separator: "\n") + "\n"
  }

  /// A word of a shell's line.
  static func shell(_ word: String) -> String {
    let plain = word.utf8.allSatisfy {
      (UInt8(ascii: "a")...UInt8(ascii: "z")).contains($0)
        || (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains($0)
        || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) || "-_./=:,+@%".utf8.contains($0)
    }
    guard !plain || word.isEmpty else { return word }
    return "'" + word.replacing("'", with: "'\\''") + "'"
  }

  /// A value of an #SBATCH line, which ends at a blank unless it is quoted.
  private static func directive(_ value: String) -> String {
    value.contains(where: { " \t\"'".contains($0) })
      ? "\"" + value.replacing("\"", with: "\\\"") + "\"" : value
  }

  // MARK: Kubernetes

  /// An indexed job, and one for the join that is suspended until the first is complete.
  package var kubernetes: String {
    func text(_ text: String) -> String { JSON(text).text() }
    func list(_ words: [String]) -> String { "[" + words.map(text).joined(separator: ", ") + "]" }
    let threads = cores.map { ["--threads", "\($0)"] } ?? []
    let share = [verb.rawValue, model, result] + words + ["--shard", "auto/\(tasks)", "--quiet"] + threads
    let join = ["join", partsFolder(joined), joined, "--remove-parts", "--quiet"]
    func resources(_ indent: String) -> String {
      let limits = [cores.map { "cpu: \(text("\($0)"))" }, memory.map { "memory: \(text($0))" }].compactMap {
        $0
      }
      guard !limits.isEmpty else { return "" }
      return "\n\(indent)resources:\n\(indent)  limits: {\(limits.joined(separator: ", "))}"
    }
    func pod(_ words: [String]) -> String {
      """
            restartPolicy: Never
            containers:
              - name: smelt
                image: \(text(image))
                command: \(list([command]))
                args: \(list(words))\(resources("          "))
                volumeMounts:
                  - {name: models, mountPath: \(text(mount))}
            volumes:
              - {name: models, persistentVolumeClaim: {claimName: \(text(claim))}}
      """
    }
    return """
      # One \(verb.title) by \(tasks) pods, then their join. Made by smelt \(smeltVersion); change what you like, then:
      #   kubectl apply -f THIS-FILE
      #   kubectl wait --for=condition=complete --timeout=-1s job/\(name)
      #   kubectl patch job/\(name)-join -p '{"spec": {"suspend": false}}'
      # A pod that fails or is evicted is started again: it makes only what is missing.
      apiVersion: batch/v1
      kind: Job
      metadata:
        name: \(name)
      spec:
        completionMode: Indexed
        completions: \(tasks)
        parallelism: \(tasks)
        backoffLimitPerIndex: 3
        template:
          spec:
      \(pod(share))
      ---
      apiVersion: batch/v1
      kind: Job
      metadata:
        name: \(name)-join
      spec:
        suspend: true
        backoffLimit: 3
        template:
          spec:
      \(pod(join))

      """
  }
}
