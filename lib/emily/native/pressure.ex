defmodule Emily.Native.Pressure do
  @moduledoc false
  # To the BEAM a tensor of a gigabyte is a few words, and no reason to collect garbage: a process that
  # makes one large tensor after the other would hold hundreds that it no longer uses.
  #
  # So a process that has just waited for a computation looks at what MLX holds. Beyond a mark it
  # collects its own garbage, and sets the next mark from what was left: what is in use counts once,
  # and is not collected for again and again.

  alias Emily.Native

  @key :"$emily_memory_mark"

  # Less than this is never worth a collection, and more than that is never added to what is in use.
  @least 64 * 1_048_576
  @most 1024 * 1_048_576

  @doc "Collects the calling process' garbage if MLX holds more than its mark."
  @spec relieve() :: :ok
  def relieve do
    active = Native.active_memory()
    mark = Process.get(@key, @least)

    cond do
      active > mark ->
        collect()
        Process.put(@key, next(Native.active_memory()))

      # What was in use is gone, so garbage may be told from it earlier.
      mark > 4 * max(active, @least) ->
        Process.put(@key, next(active))

      true ->
        :ok
    end

    :ok
  end

  # What the garbage referred to is given up when this process lets its scheduler go, and what is large
  # by another thread.
  defp collect do
    :erlang.garbage_collect()
    :erlang.yield()
    reference = make_ref()

    with :pending <- Native.disposed(reference), do: receive(do: ({^reference, :ok} -> :ok))
  end

  defp next(active), do: active + (active |> max(@least) |> min(@most))
end
