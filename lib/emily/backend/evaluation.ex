defmodule Emily.Backend.Evaluation do
  @moduledoc false
  # Computes what Nx's functions returned: the tensors of `Emily.Backend` in a container.

  alias Emily.Backend, as: B
  alias Nx.Tensor, as: T

  @doc "Begins to compute each tensor; returns the container."
  @spec begin(container) :: container when container: Nx.LazyContainer.t()
  def begin(container) do
    container |> tensors() |> submit()
    container
  end

  @doc "Computes each tensor; returns the container."
  @spec finish(container) :: container when container: Nx.LazyContainer.t()
  def finish(container) do
    tensors = tensors(container)

    # A stream goes in order: once the last tensor is there, so are those that were begun before it, and
    # only the first wait takes a trip to the stream's thread.
    tensors |> Enum.drop(1) |> submit()
    for %B{ref: ref, device: device} <- tensors, do: Emily.eval(ref, device)
    container
  end

  defp submit(tensors), do: for(%B{ref: ref} <- Enum.reverse(tensors), do: Emily.async_eval(ref))

  # The last one of the container comes first.
  defp tensors(%T{} = tensor), do: ours(tensor, [])

  defp tensors(container) do
    {_container, found} =
      Nx.LazyContainer.traverse(container, [], fn template, tensor, found ->
        {template, ours(tensor.(), found)}
      end)

    found
  end

  defp ours(%T{data: %B{} = data}, found), do: [data | found]
  defp ours(%T{}, found), do: found
end
