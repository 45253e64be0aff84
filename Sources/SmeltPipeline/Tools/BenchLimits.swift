// What the machine allows: the limits that measured rates are held against.

internal import CKernels
import SmeltStorage
internal import Synchronization

/// Fused multiply-adds in registers on all threads at once, in GFLOPS: the sum of what each reaches while the others run.
func measuredPeak(_ parallel: Parallel, seconds: Double = 0.2) -> Double {
  let rates = Mutex(0.0)
  parallel.forEach(parallel.threads) { _ in
    let rate = sk_peak_f32_gflops(seconds)
    rates.withLock { $0 += rate }
  }
  return rates.withLock { $0 }
}

/// Bytes read from memory on all threads at once, in GB a second: the best of several walks over more than any cache holds.
func measuredMemoryRead(_ parallel: Parallel, walks: Int = 5) -> Double {
  let (block, blocks) = (4 << 20, 64)
  // Written once, so that every page is there and is its own.
  let buffer = ByteBuffer(count: block * blocks)
  parallel.forEach(blocks) { index in
    // SAFETY: each block lies in the buffer, and one task writes it
    buffer.bytes.baseAddress!.advanced(by: index * block).initializeMemory(
      as: UInt8.self, repeating: UInt8(index + 1), count: block)
  }
  var best = 0.0
  for _ in 0..<walks {
    let start = monotonicSeconds()
    let found = Mutex(0)
    parallel.forEach(blocks) { index in
      // SAFETY: each block lies in the buffer; nothing writes to it any more. No byte is zero, so that the walk goes to the end.
      let place = buffer.bytes.baseAddress!.advanced(by: index * block).assumingMemoryBound(to: UInt8.self)
      let walked = sk_find_byte(place, 0, block)
      found.withLock { $0 += walked }
    }
    let time = monotonicSeconds() - start
    precondition(found.withLock { $0 } == block * blocks, "a walk over memory ended early")
    best = max(best, Double(block * blocks) / max(time, 1e-9) / 1e9)
  }
  return best
}
