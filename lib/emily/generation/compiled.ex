defmodule Emily.Generation.Compiled do
  @moduledoc false
  # A function that is called time and again with arguments of the same form.
  #
  # `Nx.Defn.jit/2` finds what it compiled by the function and by all its arguments' forms, which for a model of another
  # library, whose function holds the whole model, takes longer than a step. Here whoever calls says by a short mark
  # whether the form is another one. What the compiler keeps, it keeps: other generations find it there.

  alias Nx.Defn.Composite

  @enforce_keys [:fun, :options]
  defstruct [:fun, :options, :mark, :call]

  @type t :: %__MODULE__{
          fun: function(),
          options: keyword(),
          mark: term(),
          call: function() | nil
        }

  @spec new(function(), keyword()) :: t()
  def new(fun, options), do: %__MODULE__{fun: fun, options: options}

  @doc "What the function gives, and itself to be called next. Arguments of another form have another `mark`."
  @spec call(t(), term(), [Nx.Container.t()]) :: {term(), t()}
  def call(%__MODULE__{call: call, mark: mark} = compiled, mark, arguments) when call != nil,
    do: {apply(call, arguments), compiled}

  def call(%__MODULE__{fun: fun, options: options} = compiled, mark, arguments) do
    compiled = %{
      compiled
      | call: Nx.Defn.compile(fun, templates(arguments), options),
        mark: mark
    }

    {apply(compiled.call, arguments), compiled}
  end

  @doc """
  Compiles the function for arguments of another form in a process of its own, so that it is there when they come.

  Nothing depends on that: what fails here fails again when it is called.
  """
  @spec prepare(t(), [Nx.Container.t()]) :: :ok
  def prepare(%__MODULE__{fun: fun, options: options}, templates) do
    if options[:compiler] == Emily.Compiler do
      options = Keyword.put_new_lazy(options, :device, &Emily.Stream.device/0)

      spawn(fn ->
        try do
          Nx.Defn.compile(fun, templates, options)
        catch
          _kind, _reason -> :ok
        end
      end)
    end

    :ok
  end

  @doc "The templates of arguments."
  @spec templates([Nx.Container.t()]) :: [Nx.Container.t()]
  def templates(arguments),
    do: for(argument <- arguments, do: Composite.traverse(argument, &template/1))

  @doc """
  A container that a call may compute in the memory of.

  Scalars and vectors stay, which nobody gains anything from: `counters/1` needs them.
  """
  @spec lend(container) :: container when container: Nx.Container.t()
  def lend(container) do
    Composite.traverse(container, &if(Nx.rank(&1) > 1, do: Nx.donatable(&1), else: &1))
  end

  @doc """
  The scalars and vectors of a container. No token may depend on one of them, such as a count that nobody looks at;
  what is noted and never computed becomes more with each call, so somebody has to compute them now and then.
  """
  @spec counters(Nx.Container.t()) :: [Nx.Tensor.t()]
  def counters(container),
    do: for(tensor <- Composite.flatten_list([container]), Nx.rank(tensor) < 2, do: tensor)

  defp template(tensor), do: tensor |> Nx.to_tensor() |> Nx.to_template()
end
