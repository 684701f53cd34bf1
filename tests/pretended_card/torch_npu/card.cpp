// The pretended card's memory and its few operations of its own; all others are the processor's, on copies.

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/EmptyTensor.h>
#include <ATen/autocast_mode.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/resize_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/extension.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

namespace {

using at::Tensor;
using std::optional;

constexpr auto CARD = c10::DeviceType::PrivateUse1;
constexpr auto KEY = c10::DispatchKey::PrivateUse1;
constexpr int MOST = 8;  // cards

// ------------------------------------------------------------------------------------------------ memory

thread_local c10::DeviceIndex current = 0;
std::atomic<size_t> held[MOST], peak[MOST], limit{0};
std::mutex lock;
std::unordered_map<void*, std::pair<int, size_t>> sizes;  // of what is held, and on which card

void release(void* data) {
  if (!data) return;
  std::lock_guard<std::mutex> guard(lock);
  const auto found = sizes.find(data);
  held[found->second.first] -= found->second.second;
  sizes.erase(found);
  std::free(data);
}

struct Memory : c10::Allocator {
  c10::DataPtr allocate(size_t size) override {
    const c10::Device device(CARD, current);
    if (!size) return {nullptr, nullptr, &release, device};
    std::lock_guard<std::mutex> guard(lock);
    if (held[current] + size > limit)
      throw c10::OutOfMemoryError({__func__, __FILE__, uint32_t(__LINE__)}, "the pretended card is out of memory");
    void* data = nullptr;
    TORCH_CHECK(posix_memalign(&data, 64, size) == 0, "the machine is out of memory");
    sizes[data] = {current, size};
    held[current] += size;
    peak[current] = std::max(peak[current].load(), held[current].load());
    return {data, data, &release, device};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, std::size_t size) const override { default_copy_data(to, from, size); }
} memory;
REGISTER_ALLOCATOR(CARD, &memory);

// What PyTorch asks of every kind of device: which one is current, and streams, of which there is one.
struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return CARD; }
  c10::Device getDevice() const override { return {CARD, current}; }
  void setDevice(c10::Device device) const override { uncheckedSetDevice(device); }
  void uncheckedSetDevice(c10::Device device) const noexcept override { current = std::max<int>(device.index(), 0); }
  c10::Device exchangeDevice(c10::Device device) const override {
    const auto former = getDevice();
    uncheckedSetDevice(device);
    return former;
  }
  c10::DeviceIndex deviceCount() const noexcept override { return MOST; }
  c10::Stream getStream(c10::Device device) const noexcept override { return c10::Stream(c10::Stream::DEFAULT, device); }
  c10::Stream getDefaultStream(c10::Device device) const override { return getStream(device); }
  c10::Stream getNewStream(c10::Device device, int) const override { return getStream(device); }
  c10::Stream exchangeStream(c10::Stream stream) const noexcept override { return stream; }
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override {}
  void record(void**, const c10::Stream&, c10::DeviceIndex, c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void*, c10::DeviceIndex) const noexcept override {}
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

struct Hooks : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return MOST; }
  c10::DeviceIndex getCurrentDevice() const override { return current; }
  void setCurrentDevice(c10::DeviceIndex number) const override { current = number; }
  at::Device getDeviceFromPtr(void*) const override { return {CARD, 0}; }
  at::Allocator* getPinnedMemoryAllocator() const override { return at::getCPUAllocator(); }  // all of it could be
  at::Generator getNewGenerator(c10::DeviceIndex) const override { return at::detail::createCPUGenerator(); }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override {
    static const auto generator = at::detail::createCPUGenerator();
    return generator;
  }
  void resizePrivateUse1Bytes(const c10::Storage& storage, size_t size) const override {
    const c10::DeviceGuard guard(storage.device());
    auto data = memory.allocate(size);
    if (storage.data()) std::memcpy(data.get(), storage.data(), std::min(size, storage.nbytes()));
    storage.set_data_ptr_noswap(std::move(data));
    storage.set_nbytes(size);
  }
} hooks;

// --------------------------------------------------------------------------------------- its own operations

Tensor on_host(const Tensor& tensor) {  // the same memory
  if (tensor.device().type() != CARD) return tensor;
  const auto options = tensor.options().device(at::kCPU);
  return at::from_blob(const_cast<void*>(tensor.const_data_ptr()), tensor.sizes(), tensor.strides(), options);
}

Tensor empty(at::IntArrayRef size, optional<at::ScalarType> dtype, optional<at::Layout>, optional<at::Device> device,
             optional<bool>, optional<at::MemoryFormat> format) {
  const c10::DeviceGuard guard(c10::device_or_default(device));
  return at::detail::empty_generic(size, &memory, c10::DispatchKeySet(KEY), c10::dtype_or_default(dtype), format);
}

Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride, optional<at::ScalarType> dtype,
                     optional<at::Layout>, optional<at::Device> device, optional<bool>) {
  const c10::DeviceGuard guard(c10::device_or_default(device));
  const auto type = c10::dtype_or_default(dtype);
  return at::detail::empty_strided_generic(size, stride, &memory, c10::DispatchKeySet(KEY), type);
}

Tensor as_strided(const Tensor& self, at::IntArrayRef size, at::IntArrayRef stride, optional<int64_t> offset) {
  return at::native::as_strided_tensorimpl(self, size, stride, offset);
}

const Tensor& resize(const Tensor& self, at::IntArrayRef size, optional<at::MemoryFormat> format) {
  return at::native::resize_(self, size, format);
}

Tensor& set_to(Tensor& self, at::Storage source) { return at::native::set_(self, source); }

Tensor copy_from(const Tensor& self, const Tensor& to, bool) {
  if (to.numel()) on_host(to).copy_(on_host(self));
  return to;
}

Tensor copy_from_and_resize(const Tensor& self, const Tensor& to) {
  if (self.sizes() != to.sizes()) to.resize_(self.sizes());
  return copy_from(self, to, false);
}

at::Scalar item(const Tensor& self) { return on_host(self).item(); }

// ------------------------------------------------------------------------------- all others: the processor's

void require_one_device(const c10::OperatorHandle& op, const torch::jit::Stack* stack) {
  const auto& name = op.schema().name();
  if (name.find("index") != std::string::npos) return;  // CUDA too takes indices of the processor
  optional<at::Device> card, other;
  const auto see = [&](const Tensor& tensor) {
    if (!tensor.defined()) return;
    const auto device = tensor.device();
    if (device.type() == CARD && !card) card = device;
    else if (device.type() == CARD ? device != *card : tensor.dim() > 0) other = device;
  };
  for (const auto& value : torch::jit::last(*stack, op.schema().arguments().size())) {
    if (value.isTensor()) see(value.toTensor());
    if (value.isTensorList()) for (const auto& tensor : value.toTensorVector()) see(tensor);
  }
  TORCH_CHECK(!card || !other, "Expected all tensors to be on the same device, but found at least two devices, ",
              card->str(), " and ", other->str(), " in ", name);
}

void on_processor(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  require_one_device(op, stack);
  at::native::cpu_fallback(op, stack);
}

// PyTorch asks devices for convolutions by names of their own, which the processor does not know.
Tensor convolution(const Tensor& input, const Tensor& weight, const optional<Tensor>& bias, at::IntArrayRef stride,
                   at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed, at::IntArrayRef output_padding,
                   int64_t groups) {
  optional<Tensor> shift;
  if (bias && bias->defined()) shift = on_host(*bias);
  for (const auto& device : {weight.device(), shift ? bias->device() : weight.device()})
    TORCH_CHECK(device == input.device(), "Expected all tensors to be on the same device, but found at least two "
                "devices, ", input.device(), " and ", device, " in convolution");
  return at::convolution(on_host(input), on_host(weight), shift, stride, padding, dilation, transposed, output_padding,
                         groups).to(input.device());
}

std::tuple<Tensor, Tensor, Tensor> convolution_backward(
    const Tensor& gradient, const Tensor& input, const Tensor& weight, at::IntArrayRef stride, at::IntArrayRef padding,
    at::IntArrayRef dilation, bool transposed, at::IntArrayRef output_padding, int64_t groups, std::array<bool, 3> mask) {
  const int64_t channels[] = {transposed ? weight.size(1) * groups : weight.size(0)};
  const auto [by_input, by_weight, by_bias] = at::convolution_backward(
      on_host(gradient), on_host(input), on_host(weight), at::OptionalIntArrayRef(channels), stride, padding, dilation,
      transposed, output_padding, groups, mask);
  const auto back = [&](const Tensor& tensor) { return tensor.defined() ? tensor.to(input.device()) : tensor; };
  return {back(by_input), back(by_weight), back(by_bias)};
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&on_processor>()); }

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", empty);
  m.impl("empty_strided", empty_strided);
  m.impl("as_strided", as_strided);
  m.impl("view", at::native::view);
  m.impl("_reshape_alias", at::native::_reshape_alias);
  m.impl("unfold", at::native::unfold);
  m.impl("resize_", resize);
  m.impl("set_.source_Storage", set_to);
  m.impl("set_.source_Storage_storage_offset", at::native::set_storage_cpu_);
  m.impl("set_.source_Tensor", at::native::set_tensor_);
  m.impl("_copy_from", copy_from);
  m.impl("_copy_from_and_resize", copy_from_and_resize);
  m.impl("_local_scalar_dense", item);
  m.impl("convolution_overrideable", convolution);
  m.impl("convolution_backward_overrideable", convolution_backward);
}

// Which operations autocast runs in half precision, and which never: as on other cards.
#define IN_HALF(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, lower_precision_fp)
#define IN_FULL(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, fp32)

TORCH_LIBRARY_IMPL(_, AutocastPrivateUse1, m) { m.fallback(torch::CppFunction::makeFallthrough()); }

TORCH_LIBRARY_IMPL(aten, AutocastPrivateUse1, m) {
  AT_FORALL_LOWER_PRECISION_FP(IN_HALF)
  AT_FORALL_FP32(IN_FULL)
}

}  // namespace

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  at::RegisterPrivateUse1HooksInterface(&hooks);
  m.def("current", [] { return int(current); });
  m.def("set_device", [](int number) { current = number; });
  m.def("limit", [] { return limit.load(); });
  m.def("set_limit", [](size_t size) { limit = size; });
  m.def("held", [](int number) { return held[number].load(); });
  m.def("peak", [](int number) { return peak[number].load(); });
  m.def("reset_peak", [](int number) { peak[number] = held[number].load(); });
}
