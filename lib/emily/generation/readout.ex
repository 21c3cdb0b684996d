defmodule Emily.Generation.Readout do
  @moduledoc false
  # Tensors that are computed while the process does something else, and read later.
  #
  # A stream works through its queue in order. So what is to be read next is asked for before more work is given to the
  # stream, and its elements come while that is done: this is what lets the device have a step to do at all times.

  alias Emily.{Backend, Native}
  alias Emily.Native.Observer
  alias Nx.Tensor, as: T

  @typedoc "A tensor whose elements were asked for."
  @type t :: {:pending, T.t(), reference()} | {:there, T.t()}

  @doc """
  Begins to compute a container's tensors and returns it; nobody waits.

  What no process holds any more when its turn comes is left out. Tensors of other backends are computed already.
  """
  @spec dispatch(container) :: container when container: Nx.Container.t() | T.t()
  defdelegate dispatch(container), to: Backend, as: :async_eval

  @doc "Asks for a tensor's elements, which come as a message: `await/1` has to follow."
  @spec request(T.t()) :: t()
  def request(%T{data: %Backend{ref: ref}} = tensor) do
    reference = make_ref()

    case Native.read(ref, reference) do
      {:ok, binary} -> {:there, there(tensor, binary)}
      :pending -> {:pending, tensor, reference}
    end
  end

  def request(%T{} = tensor), do: {:there, tensor}

  @doc "The elements, in row-major order, as numbers. Waits for them."
  @spec await(t()) :: [number()]
  def await({:there, tensor}), do: Nx.to_flat_list(tensor)

  def await({:pending, %T{data: %Backend{ref: ref, device: device}} = tensor, reference}) do
    binary = Observer.wait(:to_binary, ref, device, fn -> Emily.await(reference) end)
    tensor |> there(binary) |> Nx.to_flat_list()
  end

  @doc """
  Asks for the elements of `tensors`, calls `fun`, and gives the elements of each with what it returned.

  No message stays behind if `fun` raises.
  """
  @spec around([T.t()], (-> result)) :: {[[number()]], result} when result: term()
  def around(tensors, fun) do
    asked = Enum.map(tensors, &request/1)

    try do
      fun.()
    catch
      kind, reason ->
        Enum.each(asked, &forget/1)
        :erlang.raise(kind, reason, __STACKTRACE__)
    else
      result -> {answers(asked), result}
    end
  end

  # What comes after a failure has failed, too.
  defp answers([]), do: []

  defp answers([first | others]) do
    answer = await(first)
    [answer | answers(others)]
  catch
    kind, reason ->
      Enum.each(others, &forget/1)
      :erlang.raise(kind, reason, __STACKTRACE__)
  end

  defp forget({:there, _tensor}), do: :ok

  defp forget({:pending, _tensor, reference}) do
    receive do
      {^reference, _answer} -> :ok
    end
  end

  # Tokens and the like: of types whose elements are whole bytes.
  defp there(%T{type: type} = tensor, binary) do
    Nx.from_binary(binary, type, backend: Nx.BinaryBackend) |> Nx.reshape(tensor)
  end
end
