"""Sampling loops of other libraries, with fewer calls of their denoiser: `ad.run_loop`.

    python examples/loops_of_others.py k_diffusion azula smalldiffusion

Each function is all that a user of that library writes. The model is the miniature `digits`.
"""

import sys

import torch

import adaptive_diffusion as ad

digits = ad.load_miniature("digits")
training_sigmas = (1 / digits.scheduler.alphas_cumprod - 1).sqrt()
noise = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def predict_noise(x, sigma):
    """The noise in `x = data + sigma * noise`."""
    timestep = (training_sigmas - sigma).abs().argmin()
    return digits.unet(x / (1 + sigma**2).sqrt(), timestep).sample


def k_diffusion():
    from k_diffusion.sampling import get_sigmas_karras, sample_dpmpp_2m

    sigmas = get_sigmas_karras(50, 0.02, 80.0)

    def denoiser(x, sigma):
        return x - sigma[0] * predict_noise(x, sigma[0])

    def loop(model):
        return sample_dpmpp_2m(model, sigmas[0] * noise, sigmas, disable=True)

    fast, report = ad.run_loop(loop, denoiser, levels="sigma", predicts="sample")
    return fast, report, loop(denoiser)


def azula():
    from azula.denoise import Denoiser, DiracPosterior
    from azula.noise import VPSchedule
    from azula.sample import zABSampler

    class Digits(Denoiser):
        schedule = VPSchedule()

        def forward(self, x_t, t):
            alpha, sigma = self.schedule(t)
            ratio = sigma / alpha
            return DiracPosterior(x_t / alpha - ratio * predict_noise(x_t / alpha, ratio))

    denoiser = Digits()
    sampler = zABSampler(denoiser, start=0.85, steps=50, silent=True)

    def loop(model):
        sampler.denoiser = model
        return sampler(noise)

    def levels(t):
        return denoiser.schedule(torch.tensor(t))

    fast, report = ad.run_loop(loop, denoiser, levels=levels, predicts="sample")
    return fast, report, loop(denoiser)


def smalldiffusion():
    from smalldiffusion import ModelMixin, ScheduleLogLinear, samples

    class Digits(torch.nn.Module, ModelMixin):
        input_dims = (1, 8, 8)

        def forward(self, x, sigma, cond=None):
            return predict_noise(x, sigma)

    model = Digits()
    sigmas = ScheduleLogLinear(1000, sigma_min=0.02, sigma_max=80.0).sample_sigmas(50)

    def loop(denoiser):
        model.predict_eps = denoiser
        *_, last = samples(model, sigmas, gam=1.6, xt=sigmas[0] * noise)
        return last

    fast, report = ad.run_loop(loop, model.forward, levels="sigma", predicts="epsilon")
    return fast, report, loop(model.forward)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        with torch.no_grad():
            fast, report, full = globals()[name]()
        print(f"{name}: {report}")
        print("PSNR to the full run, in dB:", ad.psnr(fast, full, data_range=2.0).tolist())
