defmodule Emily.Native.Pressure do
  @moduledoc false
  # To the BEAM a tensor of a gigabyte is a few words, and no reason to collect garbage: a process that
  # makes one large tensor after the other would hold hundreds that it no longer uses.
  #
  # So a process that has just waited for a computation, or made a tensor of a large binary, looks at
  # what tensors hold. Beyond a mark it collects its own garbage, and sets the next mark from what was
  # left: what is in use counts once, and is not collected for again and again.

  alias Emily.Native

  @key :"$emily_memory_mark"

  # Less than this is never worth a collection, and more than that is never added to what is in use.
  @least 64 * 1_048_576
  @most 1024 * 1_048_576

  @doc "Collects the calling process' garbage if tensors hold more than its mark."
  @spec relieve() :: :ok
  def relieve do
    held = Native.held_memory()
    mark = Process.get(@key, @least)

    cond do
      held > mark ->
        collect()
        Process.put(@key, next(Native.held_memory()))

      # What was in use is gone, so garbage may be told from it earlier.
      mark > 4 * max(held, @least) ->
        Process.put(@key, next(held))

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

  defp next(held), do: held + (held |> max(@least) |> min(@most))
end
