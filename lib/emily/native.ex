defmodule Emily.Native do
  @moduledoc false
  # The functions of libemily, one stub each, without the checks and waiting that `Emily` adds.
  #
  # The library is missing where Emily is not installed yet, and the doctor must still run there:
  # loading this module never fails, and each stub says why the library did not load.

  # Has it compiled first.
  require Emily.Native.Cuda

  @on_load :load

  @doc false
  def load do
    priv = to_string(:code.priv_dir(:emily))

    # An install that was killed may have left files to be moved to their places.
    with :ok <- Emily.Artifact.Priv.settle(priv),
         :ok <- Emily.Native.Cuda.prepare(priv),
         :ok <- :erlang.load_nif(String.to_charlist(Path.join(priv, "libemily")), 0) do
      :persistent_term.erase({__MODULE__, :load_error})
    else
      {:error, {_kind, text}} -> fail(to_string(text))
      {:error, text} when is_binary(text) -> fail(text)
      {:error, exception} -> fail(Exception.message(exception))
    end

    :ok
  rescue
    # Mix may load this module before it has compiled those that find CUDA.
    error in UndefinedFunctionError -> fail(Exception.message(error))
  end

  @doc """
  Tries again what failed when this module was loaded.

  In a release that is before the configuration is read, which may say where CUDA is.
  """
  @spec ensure_loaded() :: :ok
  def ensure_loaded, do: if(load_error(), do: load(), else: :ok)

  defp fail(text), do: :persistent_term.put({__MODULE__, :load_error}, text)

  @doc """
  Why the library did not load; `nil` if it did.
  """
  @spec load_error() :: String.t() | nil
  def load_error, do: :persistent_term.get({__MODULE__, :load_error}, nil)

  @doc """
  The library's version, MLX's version, the NIF version it asks for, and the devices it found.
  """
  @spec info() ::
          {:ok, %{version: String.t(), mlx: String.t(), nif: String.t(), devices: [:cpu | :gpu]}}
          | {:error, String.t()}
  def info, do: not_loaded()

  @doc "A new stream on `:cpu` or `:gpu`."
  @spec stream_new(:cpu | :gpu) :: reference()
  def stream_new(_device), do: not_loaded()

  @doc "A tensor of a binary that is small enough to copy on a scheduler."
  @spec from_binary(reference(), binary(), Emily.shape(), Emily.dtype()) :: Emily.t()
  def from_binary(_stream, _binary, _shape, _dtype), do: not_loaded()

  @doc "A tensor with a copy of a large binary, made on a dirty scheduler."
  @spec copy_binary(reference(), binary(), Emily.shape(), Emily.dtype()) :: Emily.t()
  def copy_binary(_stream, _binary, _shape, _dtype), do: not_loaded()

  @doc """
  A tensor that reads a large binary in place, or `:copy` if that cannot be.

  `head` is a part of the binary, from its beginning and of more than 64 bytes: it tells whether looking
  at all of it takes long.
  """
  @spec adopt_binary(reference(), binary(), binary(), Emily.shape(), Emily.dtype()) ::
          Emily.t() | :copy
  def adopt_binary(_stream, _binary, _head, _shape, _dtype), do: not_loaded()

  @typedoc "The element type and shape of a result."
  @type out :: {Emily.dtype(), Emily.shape()}

  @doc """
  Adds an operation to the lazy graph.

  `operation` is `name` or `{name, attributes}`; `out` is `{dtype, shape}`, a list of such for several
  results, or `nil` where the inputs tell it. Several results come in a tuple.
  """
  @spec op(reference(), atom() | {atom(), map()}, out() | [out()] | nil, [Emily.t()]) ::
          Emily.t() | tuple()
  def op(_stream, _operation, _out, _inputs), do: not_loaded()

  @typedoc """
  A program: its values are numbered, the inputs first, then what each instruction gives.

  `op` is an operation, `{:cond, %{clauses: [%{predicate: program, body: program}], last: program}}`,
  `{:while, %{condition: program, body: program}}`, or `{:call, %{number: number}}`.
  """
  @type program :: %{
          inputs: [out()],
          instructions: [
            %{op: atom() | {atom(), map()}, outs: [out()], inputs: [non_neg_integer()]}
          ],
          outputs: [non_neg_integer()]
        }

  @typedoc """
  What a run has come to: its results, a call of a function that `program_resume/3` takes the results
  of, or something longer than a scheduler may be held for, which `program_go_on/2` does. A program that is to be
  fused is `:prepared` once for each stream, which says why it could not be, if it could not; it runs nevertheless,
  with `program_go_on/2`.
  """
  @type answer ::
          {:done, [Emily.t()]}
          | {:call, non_neg_integer(), [Emily.t()], reference()}
          | {:busy, reference()}
          | {:prepared, String.t() | nil, reference()}

  @doc """
  A program to be run, once these passes have gone over it.

  With `{compiler, folder}` its operations are fused. On the CPU that C++ compiler makes kernels for them, which the
  folder keeps. The folder is made if it is not there, and must belong to the user alone.
  """
  @spec program_new(program(), [atom()], {String.t(), Path.t()} | nil) :: reference()
  def program_new(program, passes \\ [], fusion \\ nil)
  def program_new(_program, _passes, _fusion), do: not_loaded()

  @doc """
  How many operations MLX has for a program after these passes, one by one and fused. Those that look at their
  inputs' elements are never fused, and not counted.
  """
  @spec program_fused(program(), [atom()], reference()) :: {non_neg_integer(), non_neg_integer()}
  def program_fused(_program, _passes, _stream), do: not_loaded()

  @doc "A program after these passes, and how often each of them found something to do."
  @spec program_optimized(program(), [atom()]) :: {program(), [{atom(), non_neg_integer()}]}
  def program_optimized(_program, _passes), do: not_loaded()

  @doc "All passes, in the order in which they run."
  @spec program_passes() :: [atom()]
  def program_passes, do: not_loaded()

  @doc "The passes that change no bit of any result."
  @spec program_exact_passes() :: [atom()]
  def program_exact_passes, do: not_loaded()

  @doc "The passes that find patterns of operations that one gives at once."
  @spec program_patterns() :: [atom()]
  def program_patterns, do: not_loaded()

  @doc """
  An answer; or `:pending`, and `{reference, {:ok, answer} | {:error, exception}}` follows.

  Tensors that are `donated` are deallocated, and may be computed in.
  """
  @spec program_run(reference(), reference(), [Emily.t()], [Emily.t()], reference()) ::
          answer() | :pending
  def program_run(_program, _stream, _inputs, _donated, _reference), do: not_loaded()

  @doc "As `program_run/4`, on a dirty scheduler."
  @spec program_go_on(reference(), reference()) :: answer() | :pending
  def program_go_on(_replay, _reference), do: not_loaded()

  @doc "As `program_run/4`, after a call that gave `results`."
  @spec program_resume(reference(), [Emily.t()], reference()) :: answer() | :pending
  def program_resume(_replay, _results, _reference), do: not_loaded()

  @doc """
  `:pending`, and `{reference, {:ok, :ok} | {:error, exception}}` follows: writes a program and its
  weights, with these names, to a folder. `interface` is the JSON that the file has of it.
  """
  @spec program_write(
          reference(),
          Path.t(),
          program(),
          String.t(),
          [String.t()],
          [Emily.t()],
          reference()
        ) :: :pending
  def program_write(_stream, _folder, _program, _interface, _names, _weights, _reference),
    do: not_loaded()

  @doc """
  `:pending`, and `{reference, {:ok, {program, weights, interface}} | {:error, exception}}` follows: the
  program in a folder, the weights among its inputs, in order, and its interface as JSON.
  """
  @spec program_read(reference(), Path.t(), pos_integer(), reference()) :: :pending
  def program_read(_stream, _folder, _most_steps, _reference), do: not_loaded()

  @doc """
  `:pending`, and `{reference, {:ok, {file, entries}} | {:error, exception}}` follows: an open safetensors
  file, with `{name, {type, shape}}` of each tensor, or `{name, message}` of one that cannot be read, in the order in
  which they lie in the file.
  """
  @spec safetensors_open(reference(), Path.t(), reference()) :: :pending
  def safetensors_open(_stream, _path, _reference), do: not_loaded()

  @doc """
  `:pending`, and `{reference, {:ok, tensors} | {:error, exception}}` follows. The tensors are read several at a time, on
  threads of their own.
  """
  @spec safetensors_read(reference(), reference(), [String.t()], reference()) :: :pending
  def safetensors_read(_stream, _file, _names, _reference), do: not_loaded()

  @doc "`:pending`, and `{reference, {:ok, :ok} | {:error, exception}}` follows when all is written."
  @spec safetensors_write(reference(), Path.t(), [String.t()], [Emily.t()], reference()) ::
          :pending
  def safetensors_write(_stream, _path, _names, _tensors, _reference), do: not_loaded()

  @doc "The element type and the shape."
  @spec tensor_type(Emily.t()) :: {Emily.dtype(), Emily.shape()}
  def tensor_type(_tensor), do: not_loaded()

  @doc "Gives a tensor's memory up; what was noted before and is still to be computed keeps it."
  @spec deallocate(Emily.t()) :: :ok | :already_deallocated
  def deallocate(_tensor), do: not_loaded()

  @doc """
  `:ok` if the memory of what was collected is given back; else `:pending`, and `{reference, :ok}` follows.
  """
  @spec disposed(reference()) :: :ok | :pending
  def disposed(_reference), do: not_loaded()

  @doc "What is behind a reference: `:elsewhere` after it was sent to another node, or saved."
  @spec presence(reference()) :: :live | :deallocated | :elsewhere
  def presence(_tensor), do: not_loaded()

  @doc "`:ok` if computed; else `:pending`, and `{reference, {:ok, :ok} | {:error, exception}}` follows."
  @spec eval(Emily.t(), reference()) :: :ok | :pending
  def eval(_tensor, _reference), do: not_loaded()

  @doc "Begins to compute."
  @spec async_eval(Emily.t()) :: :ok
  def async_eval(_tensor), do: not_loaded()

  @doc "The bytes if they can be read in place; else `:pending`, and `{reference, answer}` follows."
  @spec read(Emily.t(), reference()) :: {:ok, binary()} | :pending
  def read(_tensor, _reference), do: not_loaded()

  @doc """
  The operations of MLX's that computing these tensors takes still: a name, how many there are, and whether they
  only look at memory in another way, each.
  """
  @spec graph_operations([Emily.t()]) :: [{String.t(), pos_integer(), boolean()}]
  def graph_operations(_tensors), do: not_loaded()

  @doc "A tensor with a copy of the memory at an address of this process."
  @spec from_address(reference(), non_neg_integer(), Emily.shape(), Emily.dtype()) :: Emily.t()
  def from_address(_stream, _address, _shape, _dtype), do: not_loaded()

  @doc """
  `:pending`, and `{reference, {:ok, address}}` follows: where the elements are while the tensor lives.
  """
  @spec address(Emily.t(), reference()) :: :pending
  def address(_tensor, _reference), do: not_loaded()

  @doc "What `Emily.Memory.stats/0` returns."
  @spec memory() :: Emily.Memory.stats()
  def memory, do: not_loaded()

  @doc "The bytes that stay because something needs them: those active and those adopted."
  @spec held_memory() :: non_neg_integer()
  def held_memory, do: not_loaded()

  @doc "Counts the peak of memory anew."
  @spec reset_peak_memory() :: :ok
  def reset_peak_memory, do: not_loaded()

  @doc "Limits the memory that MLX uses; returns the limit before."
  @spec set_memory_limit(pos_integer()) :: pos_integer()
  def set_memory_limit(_bytes), do: not_loaded()

  @doc "Limits the memory that MLX keeps for the next tensors; returns the limit before."
  @spec set_cache_limit(non_neg_integer()) :: non_neg_integer()
  def set_cache_limit(_bytes), do: not_loaded()

  @doc "Limits the memory that Metal keeps for the GPU; returns the limit before."
  @spec set_wired_limit(non_neg_integer()) :: non_neg_integer()
  def set_wired_limit(_bytes), do: not_loaded()

  @doc "Gives cached memory back."
  @spec clear_cache() :: :ok
  def clear_cache, do: not_loaded()

  # Spelled so that the compiler does not conclude that every caller fails.
  defp not_loaded do
    :erlang.nif_error(%Emily.Error{
      reason: """
      the native library of Emily is not loaded
        error: #{load_error()}
      Run `mix emily.doctor` to see what is missing.\
      """
    })
  end
end
