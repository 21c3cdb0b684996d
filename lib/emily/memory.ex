defmodule Emily.Memory do
  @moduledoc """
  The memory that tensors hold, in bytes.

  A tensor's memory is free once no process holds the tensor: when the garbage collector of the last
  process that did has run, not before. MLX keeps freed memory for the next tensors.

  Tensors of large binaries read these in place where there is no GPU, so their memory is the BEAM's: it is
  in `:erlang.memory(:binary)`, and here under `:adopted`.
  """

  alias Emily.Native

  @typedoc """
  `:active` bytes are MLX's own, in tensors and in what is being computed, `:peak` is the most that was
  active at a time, and `:cache` bytes are kept for the next tensors. `:adopted` bytes are of binaries that
  tensors, lazy ones and views among them, read in place and so keep; a binary counts once for each tensor
  that was made of it, and only with the part that was used.
  """
  @type stats :: %{
          active: non_neg_integer(),
          peak: non_neg_integer(),
          cache: non_neg_integer(),
          adopted: non_neg_integer()
        }

  @doc """
  Returns what tensors hold now, in this VM and on all devices together.

      iex> stats = Emily.Memory.stats()
      iex> stats.active <= stats.peak
      true
  """
  @spec stats() :: stats()
  def stats, do: Native.memory()

  @doc """
  Counts `:peak` anew, from what is active now.

      iex> Emily.Memory.reset_peak()
      :ok
  """
  @spec reset_peak() :: :ok
  def reset_peak, do: Native.reset_peak_memory()

  @doc """
  Has MLX use at most `bytes`, and returns how many it was before.

  An operation whose result alone is larger is refused with an `ArgumentError`. Beyond the limit MLX waits
  for what is being computed before it begins anything else. At first it is a good part of the
  machine's memory, or what the container or `ulimit -v` leaves of it.

  Raises `ArgumentError` if `bytes` is no positive integer.
  """
  @spec set_limit(pos_integer()) :: pos_integer()
  def set_limit(bytes), do: Native.set_memory_limit(bytes)

  @doc """
  Has MLX keep at most `bytes` of freed memory for the next tensors, and returns how many it was before.

  With 0 every tensor's memory goes back to the system at once, which makes new tensors slower.
  """
  @spec set_cache_limit(non_neg_integer()) :: non_neg_integer()
  def set_cache_limit(bytes), do: Native.set_cache_limit(bytes)

  @doc """
  Has Metal keep up to `bytes` of MLX's memory wired, and returns how many it was before.

  What is wired stays where the GPU can read it. macOS may take other memory from the GPU while that is
  idle or short of memory, and the next operation waits until it is back; models that hardly fit the
  machine are faster with a limit above their size. At first nothing is wired. What is wired is not there
  for anybody else, and at most the working set that Metal recommends can be.

  Raises `ArgumentError` where there is no Metal, if `bytes` is no integer from 0 on, or if it is more
  than Metal allows.
  """
  @spec set_wired_limit(non_neg_integer()) :: non_neg_integer()
  def set_wired_limit(bytes), do: Native.set_wired_limit(bytes)

  @doc """
  Gives the memory that no tensor uses back to the system.

      iex> Emily.Memory.clear_cache()
      :ok
  """
  @spec clear_cache() :: :ok
  def clear_cache, do: Native.clear_cache()
end
